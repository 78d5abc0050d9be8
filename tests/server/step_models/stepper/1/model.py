"""Streams that count to N together; each item says whose it is, and HOW at which number a stream fails."""

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

    def begin(self, KEY, N, HOW):
        self.num_open += 1
        return State(KEY[0], torch.zeros_like(KEY[0]), int(N[0, 0]), int(HOW[0, 0]))

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
