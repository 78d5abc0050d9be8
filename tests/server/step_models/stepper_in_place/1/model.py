"""The same with states that the step changes, and errors that it returns."""

import time

import torch

from kindaware import Done, KindAwareModel, RequestError


class Counter:
    def __init__(self, key, last, fails_at):
        self.key, self.last, self.fails_at = key, last, fails_at
        self.number = 0


class TritonPythonModel(KindAwareModel):
    warmup = "off"

    def load(self):
        self.num_open = 0

    def begin(self, KEY, N, HOW):
        self.num_open += 1
        return Counter(KEY, int(N[0, 0]), int(HOW[0, 0]))

    def step(self, states):
        time.sleep(0.002)
        return [self.result(one) for one in states]

    def result(self, state):
        if state.number == state.fails_at:
            return RequestError("a stream that fails")
        if state.number >= state.last:
            return Done()
        state.number += 1
        number = torch.full_like(state.key, state.number - 1)
        return {"I": number, "WHOSE": state.key, "OPEN": torch.full_like(number, self.num_open)}

    def end(self, state):
        self.num_open -= 1
