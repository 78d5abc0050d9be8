"""How often a model may be healed until it is given up."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

MAX_HEALS = 5
WINDOW_SECONDS = 600.0


@dataclass(frozen=True)
class HealLimit:
    """So many heals of one model within so many seconds.

    Attributes:
        max_heals: how many; with 0 a dead model is given up at once.
        window_seconds: the time that they are counted in.
    """

    max_heals: int = MAX_HEALS
    window_seconds: float = WINDOW_SECONDS


class HealBudget:
    """Counts the heals of each model.

    Args:
        limit: what is allowed.
        now: seconds that only grow.
    """

    def __init__(self, limit: HealLimit, now: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._now = now
        self._begun: dict[str, deque[float]] = {}

    def take(self, model: str) -> bool:
        """Count one more heal of a model; return False where there have been enough."""
        begun = self._begun.setdefault(model, deque())
        while begun and self._now() - begun[0] >= self.limit.window_seconds:
            begun.popleft()
        if len(begun) >= self.limit.max_heals:
            return False
        begun.append(self._now())
        return True
