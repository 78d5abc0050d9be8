"""`IsolationBudget`: how much of its time an instance may spend on looking for the requests to blame."""

from __future__ import annotations

import time
from collections.abc import Callable

BURST_SECONDS = 10.0
"""Seconds of further forwards that may be run at once, after a time without any."""


class IsolationBudget:
    """Bounds the time that goes into running the parts of failed batches again.

    Without a bound, a client that puts a faulty request into each batch has an instance run each of them up
    to 2 log2(n) + 3 times, and all other clients wait. The budget is a bucket of seconds: it fills while time
    goes by, and further forwards take out what they last. They may take more than is left, so that a search
    that has begun is finished: a slow model is looked into as well as a fast one.

    Args:
        share: the largest share of time, in the long run; 1 for no bound.
        clock: returns the time in seconds.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._clock = clock
        self._left = BURST_SECONDS
        self._seen = clock()

    def allows(self) -> bool:
        """Whether a search may begin."""
        if self._share == 1:
            return True
        now = self._clock()
        self._left = min(BURST_SECONDS, self._left + self._share * (now - self._seen))
        self._seen = now
        return self._share > 0 and self._left > 0

    def spend(self, seconds: float) -> None:
        """Take out what a further forward has lasted."""
        self._left -= seconds
