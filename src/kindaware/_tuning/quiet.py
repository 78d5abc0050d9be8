"""Measurements while no other process needs the cores: the time of a forward that competes tells little."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar

from kindaware._tuning.core_usage import CoreUsage
from kindaware._tuning.turn import turn

T = TypeVar("T")

PATIENCE_SECONDS = 5.0
"""How long to wait for the cores, which other models of the same server may need to load."""

_WINDOW_SECONDS = 0.2
_SPARED = 1 / 8
"""Part of the cores that others may use."""


class OthersMeasureError(Exception):
    """Other instances measured for too long."""


def measure_in_quiet(
    measure: Callable[[int], T], num_cores: int, *, patience: float = PATIENCE_SECONDS
) -> tuple[T, int]:
    """Measure something while no other instance does, and no other process needs the cores.

    A measurement that another process has disturbed is made again. If the others go on, they are there to
    stay: what counts then is what the cores do that they leave.

    Args:
        measure: gets the number of cores that are free; may be called several times.
        num_cores: how many should be.
        patience: seconds to wait for them, and for other instances.

    Returns:
        What was measured, and the number of cores that were free for it, at least 1.

    Raises:
        OthersMeasureError: it was other instances' turn all the time.

    Sync:
        Until it has been measured.
    """
    deadline = time.monotonic() + patience
    with turn("measures", patience) as is_ours:
        if not is_ours:
            raise OthersMeasureError(f"other instances measured for {patience:g} s")
        while True:
            _, free = _watched(lambda: time.sleep(_WINDOW_SECONDS))
            if free >= num_cores * (1 - _SPARED):
                measured, free = _watched(lambda: measure(num_cores))
                if free >= num_cores * (1 - _SPARED):
                    return measured, num_cores
            if time.monotonic() > deadline:
                left = max(1, math.floor(min(free, num_cores)))
                return measure(left), left


def _watched(run: Callable[[], T]) -> tuple[T, float]:
    """Return the result of a call, and the cores that other processes left free meanwhile."""
    before = CoreUsage.now()
    result = run()
    return result, CoreUsage.now().free_since(before)
