"""Buckets: requests that padding may join, divided into batches of rows of similar size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kindaware._batch.forward_cost import ForwardCost
from kindaware._batch.plan import Plan
from kindaware._batch.request import Request

Extents = Sequence[tuple[float, ...]]
"""What a row is padded to: for each padded input, the size of each dimension that is padded; or its cost."""


class Buckets:
    """Divides the requests of a padded batch, so that short ones don't pay for long ones.

    The work of a row is the number of elements of its padded inputs, or what the hook `row_cost` says. In a
    batch every row does the work of the largest.

    Args:
        plan: plan of an instance whose requests are divided.
    """

    def __init__(self, plan: Plan) -> None:
        self._padding = plan.padding
        self._max_share = plan.settings.max_padding
        self._cost = ForwardCost()

    def divide(self, requests: Mapping[int, Request], positions: list[int]) -> list[list[int]]:
        """Divide a group into batches, largest rows first: one ends where its padding would exceed the limit.

        Args:
            requests: the requests of the call, by position.
            positions: those that may share a batch, ascending.

        Returns:
            The positions of each batch, batches in the order of their first request, positions ascending.
        """
        extents = {position: self._extents(requests[position]) for position in positions}
        order = sorted(positions, key=lambda position: _work(extents[position]), reverse=True)
        batches: list[list[int]] = []
        largest = extents[order[0]]
        num_rows, padding = 0, 0.0
        for position in order:
            own, rows = extents[position], requests[position].rows or 0
            joined = _joined(largest, own)
            work = _work(joined)
            # By how much the rows so far are padded further, and the new ones at all.
            padding += num_rows * (work - _work(largest)) + rows * (work - _work(own))
            if not batches or padding > self._limit((num_rows + rows) * work):
                batches.append([])
                joined, num_rows, padding = own, 0, 0.0
            batches[-1].append(position)
            largest, num_rows = joined, num_rows + rows
        return sorted(map(sorted, batches))

    def note(self, requests: Sequence[Request], seconds: float) -> None:
        """Learn from a batch how long its padded work took, in seconds."""
        if self._max_share is not None:
            return
        largest: Extents = []
        for request in requests:
            own = self._extents(request)
            largest = _joined(largest, own) if largest else own
        self._cost.note(sum(one.rows or 0 for one in requests) * _work(largest), seconds)

    def _limit(self, work: float) -> float:
        """Return how much of a batch's work may be padding."""
        return self._cost.worth(work) if self._max_share is None else self._max_share * work

    def _extents(self, request: Request) -> Extents:
        if request.row_cost is not None:
            return [(request.row_cost,)]
        # `Plan.divides`: without the hook there is padding.
        assert self._padding is not None
        return self._padding.extents(request)


def _joined(one: Extents, other: Extents) -> Extents:
    return [tuple(map(max, *pair)) for pair in zip(one, other, strict=True)]


def _work(extents: Extents) -> float:
    """Return the work of a row that is padded to these extents."""
    return sum(map(math.prod, extents))
