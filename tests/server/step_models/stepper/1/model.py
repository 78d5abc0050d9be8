"""Streams that count to N together; each item says whose it is, and HOW at which number a stream fails.

At 0 it fails to begin, be it alone or together with others.
"""

import time
from typing import NamedTuple

import torch

from kindaware import Done, KindAwareModel, Next


class State(NamedTuple):
    key: torch.Tensor
    number: torch.Tensor
    last: int
    fails_at: int


class TritonPythonModel(KindAwareModel):
    warmup = "off"

    def load(self):
        self.num_open = 0
        self.largest_group = 1

    def begin(self, KEY, N, HOW):
        [state] = self.states_of([{"KEY": KEY, "N": N, "HOW": HOW}])
        return state

    def begin_batch(self, inputs):
        states = self.states_of(inputs)
        if len(inputs) > self.largest_group:
            self.largest_group = len(inputs)
            self.logger.info("%d streams have begun together", len(inputs))
        return states

    def states_of(self, inputs):
        keys, lasts, hows = (torch.cat([one[name] for one in inputs]) for name in ("KEY", "N", "HOW"))
        if (hows == 0).any():
            raise ValueError("a stream that fails")
        self.num_open += len(inputs)
        rows = zip(keys, torch.zeros_like(keys), lasts[:, 0].tolist(), hows[:, 0].tolist(), strict=True)
        return [State(*row) for row in rows]

    def step(self, states):
        time.sleep(0.002)
        assert torch.is_inference_mode_enabled()
        numbers = torch.stack([one.number for one in states])
        if any(one.fails_at == int(one.number) for one in states):
            raise ValueError("a stream that fails")
        return [
            Done()
            if int(number) >= one.last
            else Next(
                one._replace(number=number + 1),
                {
                    "I": number[None],
                    "WHOSE": one.key[None],
                    "OPEN": torch.full_like(number[None], self.num_open),
                },
            )
            for one, number in zip(states, numbers, strict=True)
        ]

    def end(self, state):
        self.num_open -= 1
