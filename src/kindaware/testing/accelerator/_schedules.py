"""How far simulated devices run ahead of what the host has waited for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from kindaware.testing.accelerator._timeline import Stream

_LONGEST_RUN = 32
_DRAWS_PER_LENGTH = 64


class Schedule(Protocol):
    """Chooses how far the devices run ahead of what the host has waited for."""

    def advance(self, busy: Sequence[Stream]) -> Stream | None:
        """Name a stream that does its next piece of work now; None to go back to the host.

        Called whenever the host hands something to a device, and again after every piece that was done.

        Args:
            busy: the streams that have work, at least one, in the order in which they got it.
        """


class Latest:
    """Nothing is done before it is waited for: the worst that the rules of CUDA allow a host to see."""

    def advance(self, busy: Sequence[Stream]) -> Stream | None:
        """Choose none."""
        return None


class Seeded:
    """Runs streams ahead at random, the same way each time for the same seed and the same program.

    Args:
        seed: of the choices; also decides how eager the devices are altogether.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random = random.Random(seed)
        self._eagerness = self._random.random()

    def __repr__(self) -> str:
        return f"Seeded({self.seed})"

    def advance(self, busy: Sequence[Stream]) -> Stream | None:
        """Choose any of the streams, or none."""
        return self._random.choice(busy) if self._random.random() < self._eagerness else None


class Drawn:
    """Lets hypothesis choose, and find the simplest choices that make a test fail.

    A choice holds for a number of turns that is drawn with it, and the numbers grow with the program, so that
    one with thousands of operations does not use up what hypothesis may draw.

    Every example needs a harness of its own: one that is kept has buffers and memory of the examples before,
    so the program differs, and hypothesis says "Inconsistent data generation". For a kept one draw a seed
    and use `Seeded`.

    Args:
        data: what `hypothesis.strategies.data()` gives to the test.
    """

    def __init__(self, data: Any) -> None:
        from hypothesis import strategies

        self._data = data
        self._stream = strategies.integers(0, 3)
        self._shorter = strategies.integers(0, _LONGEST_RUN - 1)
        self._choice = self._turns_left = self._num_draws = 0

    def advance(self, busy: Sequence[Stream]) -> Stream | None:
        """Choose as drawn: 0 is none, else a stream by its place, counted round."""
        if not self._turns_left:
            self._choice = self._data.draw(self._stream, "stream that runs on, 0 is none")
            longest = _LONGEST_RUN << (self._num_draws // _DRAWS_PER_LENGTH)
            self._turns_left = longest - self._data.draw(self._shorter, f"turns less than {longest}")
            self._num_draws += 1
        self._turns_left -= 1
        return busy[(self._choice - 1) % len(busy)] if self._choice else None
