"""What the tests of streaming share: a configuration, models, and what clients of a harness get."""

import asyncio

import torch

from kindaware import KindAwareModel
from kindaware.testing import ModelHarness

CONFIG = {
    "name": "s",
    "max_batch_size": 8,
    "input": [{"name": "N", "data_type": "TYPE_INT32", "dims": [1]}],
    "output": [{"name": "I", "data_type": "TYPE_INT32", "dims": [1]}],
    "model_transaction_policy": {"decoupled": True},
}


class Beat:
    """Notes whether there is work."""

    depth = 0

    def __enter__(self):
        self.depth += 1

    def __exit__(self, *_):
        self.depth -= 1


class Model(KindAwareModel):
    """Makes nothing; counts the generators that have begun and those that have ended."""

    def load(self):
        self.begun = self.ended = 0


class Plain(Model):
    """Counters to N."""

    def stream(self, N):
        self.begun += 1
        try:
            for number in range(int(N[0, 0])):
                yield torch.full_like(N, number)
        finally:
            self.ended += 1


class Async(Model):
    """Counters to N, waiting a moment before each number."""

    async def stream(self, N):
        self.begun += 1
        try:
            for number in range(int(N[0, 0])):
                await asyncio.sleep(0.002)
                yield torch.full_like(N, number)
        finally:
            self.ended += 1


BOTH = [Plain, Async]


def open_harness(model_class, **options):
    """A harness in which a failed response is a value, and without a warm-up."""
    options = {"config": CONFIG, "parameters": {"kindaware.warmup": "off"}, **options}
    return ModelHarness(model_class, raise_errors=False, **options)


def seen(results):
    """Numbers, the codes of errors, and END for the empty final response, as a client gets them."""
    shown = []
    for result in results:
        if result.error is not None:
            shown.append(result.error.code().name)
        elif result.outputs:
            shown.append(int(result.outputs["I"].flatten()[0]))
        else:
            shown.append("END")
    return shown
