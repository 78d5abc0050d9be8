"""What a forward costs besides its rows, learned from the forwards of an instance."""

from __future__ import annotations

import math

_COLD = 16
"""The first forwards are not measured: libraries choose their kernels in them."""

_MEMORY = 64
"""The mean covers about so many forwards, so that it follows a machine that becomes slower or faster."""

_SPREAD = 4
"""How many times as much padded work as the fastest forward the mean one must have, to tell the two parts of
a forward's time apart."""

_EXPLORED_SHARE = 0.25
"""The share of a batch that may be padding until they are told apart."""


class ForwardCost:
    """Learns how much padded work takes as long as a further forward.

    The time of a forward is taken to be a fixed part, which launches, Python and the weights cost, and a part
    that grows with its work. The line through the fastest forward so far and the mean of the latest ones
    gives both.
    """

    def __init__(self) -> None:
        self._num_seen = 0
        self._mean_work = self._mean_seconds = 0.0
        self._fastest_work, self._fastest_seconds = 0.0, math.inf

    def note(self, work: float, seconds: float) -> None:
        """Learn from a forward.

        Args:
            work: the work of its rows, all of them as large as the largest.
            seconds: how long it took, from its inputs to its outputs on the host.
        """
        self._num_seen += 1
        if self._num_seen <= _COLD:
            return
        weight = 1 / min(self._num_seen - _COLD, _MEMORY)
        self._mean_work += weight * (work - self._mean_work)
        self._mean_seconds += weight * (seconds - self._mean_seconds)
        if seconds < self._fastest_seconds:
            self._fastest_work, self._fastest_seconds = work, seconds

    def worth(self, work: float) -> float:
        """Return how much of a batch's work may be padding before a further forward takes less time.

        Args:
            work: the work of the batch.
        """
        if self._mean_work < _SPREAD * self._fastest_work:
            return _EXPLORED_SHARE * work
        # Below 0 at first, when there is no fastest forward yet.
        growth = self._mean_seconds - self._fastest_seconds
        if growth <= 0:
            return math.inf
        per_second = (self._mean_work - self._fastest_work) / growth
        return max(0.0, self._fastest_seconds * per_second - self._fastest_work)
