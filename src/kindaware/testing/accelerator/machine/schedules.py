"""How far simulated devices run ahead of what the host has waited for."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any, Protocol

from kindaware.testing.accelerator.machine.streams import Stream

_LONGEST_RUN = 32
_MOST_CHOICES = 64


class Schedule(Protocol):
    """Chooses how far the devices run ahead of what the host has waited for."""

    def advance(self, busy: Sequence[Stream]) -> Stream | None:
        """Return a stream that does its next piece of work now, or None to go back to the host.

        Called whenever the host hands something to a device, and again after every piece of work done.

        Args:
            busy: the streams that have work queued, at least one, in the order in which they got it.
        """


class Latest:
    """Runs nothing before it is waited for: the worst case that CUDA's rules allow."""

    def advance(self, busy: Sequence[Stream]) -> Stream | None:
        """Return None."""
        return None


class Seeded:
    """Runs streams ahead at random, the same way each time for the same seed and the same program.

    Args:
        seed: decides the choices, and how eager the devices are overall.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random = random.Random(seed)
        self._eagerness = self._random.random()

    def __repr__(self) -> str:
        return f"Seeded({self.seed})"

    def advance(self, busy: Sequence[Stream]) -> Stream | None:
        """Return a random stream, or None."""
        return self._random.choice(busy) if self._random.random() < self._eagerness else None


class Drawn:
    """Lets hypothesis choose, and find the simplest choices that make a test fail.

    All choices are drawn at once: a list of at most 64, each for 1 to 32 turns, which starts over at its end.
    What is drawn does not depend on the program, so a harness may be kept from example to example.

    Args:
        data: the value of `hypothesis.strategies.data()` in the test.
    """

    def __init__(self, data: Any) -> None:
        # An optional dependency, which only this schedule needs.
        from hypothesis import strategies

        choice = strategies.tuples(strategies.integers(0, 3), strategies.integers(1, _LONGEST_RUN))
        self._choices: list[tuple[int, int]] = data.draw(
            strategies.lists(choice, min_size=1, max_size=_MOST_CHOICES),
            "streams that run on (0 is none), and for how many turns",
        )
        self._turns = itertools.cycle(stream for stream, num_turns in self._choices for _ in range(num_turns))

    def __repr__(self) -> str:
        return f"Drawn({self._choices})"

    def advance(self, busy: Sequence[Stream]) -> Stream | None:
        """Return the stream that was drawn, counted modulo the busy ones; None where 0 was drawn."""
        choice = next(self._turns)
        return busy[(choice - 1) % len(busy)] if choice else None
