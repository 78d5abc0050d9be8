"""What the tests of `step` share: models that count up to N, and what has been seen of their steps."""

import time
from dataclasses import dataclass
from typing import NamedTuple

import torch
from stream_kit import CONFIG, open_harness, seen

from kindaware import Done, KindAwareModel, Next

__all__ = [
    "BOTH",
    "CONFIG",
    "Counter",
    "Counting",
    "InPlace",
    "Mutable",
    "Values",
    "number",
    "open_harness",
    "seen",
    "together",
    "until",
]


class Counter(NamedTuple):
    """The state of a stream: an immutable one."""

    last: int
    next: int


@dataclass
class Mutable:
    """The state of a stream that its step changes."""

    last: int
    next: int


def number(value, rows=1):
    """An item: a number in each row."""
    return torch.full((rows, 1), value, dtype=torch.int32)


def until(condition, seconds=20):
    """Wait until a condition holds; fail if it doesn't in time."""
    latest = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < latest
        time.sleep(0.001)


class Counting(KindAwareModel):
    """Counts from 0 up to N; notes the sizes of its steps, and the states that have ended."""

    def load(self):
        self.begun = []
        self.sizes = []
        self.ended = []

    def end(self, state):
        self.ended.append(state)


class Values(Counting):
    """Keeps a named tuple per stream."""

    def begin(self, N):
        self.begun.append(int(N[0, 0]))
        return Counter(self.begun[-1], 0)

    def step(self, states):
        self.sizes.append(len(states))
        return [self.result(one) for one in states]

    def result(self, state):
        if state.next >= state.last:
            return Done()
        return Next(state._replace(next=state.next + 1), number(state.next))


class InPlace(Counting):
    """Keeps an object per stream, and changes it."""

    def begin(self, N):
        self.begun.append(int(N[0, 0]))
        return Mutable(self.begun[-1], 0)

    def step(self, states):
        self.sizes.append(len(states))
        return [self.result(one) for one in states]

    def result(self, state):
        if state.next >= state.last:
            return Done()
        state.next += 1
        return number(state.next - 1)


BOTH = [Values, InPlace]


def together(model_class, num_streams):
    """The model, which begins to count when so many streams are open."""

    class Together(model_class):
        def step(self, states):
            if len(self.begun) < num_streams:
                time.sleep(0.001)
                return [None] * len(states)
            return super().step(states)

    return Together
