"""What the tests of calls share: models that are called, and a harness with them."""

import asyncio

import torch

from kindaware import KindAwareModel, RequestError
from kindaware.testing import ModelHarness

DECOUPLED = {"model_transaction_policy": {"decoupled": True}}


def make_config(name, data_type="TYPE_FP32", **more):
    """One input X and one output Y, [2]."""
    tensors = {"data_type": data_type, "dims": [2]}
    return {
        "name": name,
        "max_batch_size": 8,
        "input": [{"name": "X", **tensors}],
        "output": [{"name": "Y", **tensors}],
        **more,
    }


class Echo(KindAwareModel):
    """Gives X back, and keeps what each request said about itself; refuses numbers below 0."""

    warmup = "off"

    def load(self):
        self.seen = []

    def preprocess(self, inputs, requests):
        self.seen += requests
        if isinstance(inputs["X"], torch.Tensor) and (inputs["X"] < 0).any():
            raise RequestError("X is negative", code="UNSUPPORTED")
        return inputs

    def forward(self, X):
        return X


class Count(KindAwareModel):
    """Gives X, X + 1 and so on, as many as X says; ends early when it is cancelled."""

    warmup = "off"

    def load(self):
        self.num_given = 0

    async def stream(self, X):
        if (X < 0).any():
            raise RequestError("X is negative", code="UNSUPPORTED")
        for number in range(int(X[0, 0])):
            await asyncio.sleep(0.001)
            self.num_given += 1
            yield X + number


def open_harness(caller, *, data_type="TYPE_FP32", **options):
    """A harness of a calling model, with `echo` and `count` beside it."""
    others = [(Echo, make_config("echo", data_type)), (Count, make_config("count", **DECOUPLED))]
    config = options.pop("config", make_config("caller", data_type))
    return ModelHarness(caller, config=config, models=others, raise_errors=False, **options)


class Caller(KindAwareModel):
    """Calls what its test says."""

    warmup = "off"

    def load(self):
        """Make nothing."""

    def forward(self, X):
        return self.work(X)


def calling(work, base=Caller, **members):
    """A calling model whose forward is a function of self and X."""
    return type("Calling", (base,), {"work": work, **members})


def echo_of(model):
    """The called model's own object, which has seen the requests."""
    return model.model("echo").instance
