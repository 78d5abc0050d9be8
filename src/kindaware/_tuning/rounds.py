"""Times of variants that take turns, so that whatever slows the machine for a while slows all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)
Clock = Callable[[], float]

SLOT_SECONDS = 0.01
"""How long a variant runs in a round, at least: short forwards are repeated."""


def shortest_times(
    variants: Mapping[Name, Callable[[], object]],
    *,
    num_rounds: int,
    deadline: float,
    enter: Callable[[Name], object],
    clock: Clock = time.perf_counter,
) -> dict[Name, float]:
    """Run each variant several times, in turns; return the shortest time of each.

    The shortest and not the mean: other work on the machine only ever adds time, so the shortest is what
    repeats from start to start.

    Args:
        variants: what to run, by name.
        num_rounds: how often each has its turn.
        deadline: on the clock; no turn begins that isn't expected to end before it.
        enter: called with a variant's name before its turn, whose first run isn't timed.
        clock: returns seconds.

    Returns:
        Seconds per run, by name, of the variants that had a turn.
    """
    shortest: dict[Name, float] = {}
    names = list(variants)
    for _ in range(num_rounds):
        for name in names:
            if clock() + 2 * shortest.get(name, 0.0) > deadline:
                return shortest
            enter(name)
            variants[name]()
            shortest[name] = min(shortest.get(name, math.inf), _shortest(variants[name], clock))
        # There and back again, or each would always follow the same other one.
        names.reverse()
    return shortest


def _shortest(run: Callable[[], object], clock: Clock) -> float:
    """Return the shortest time of as many runs as fit into a slot, and of one at least."""
    shortest, begun = math.inf, clock()
    ended = begun
    while ended - begun < SLOT_SECONDS:
        started = clock()
        run()
        ended = clock()
        shortest = min(shortest, ended - started)
    return shortest
