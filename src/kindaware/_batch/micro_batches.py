"""Micro-batches: a group of requests in batches of at most so many rows, a larger request in slices."""

from __future__ import annotations

from collections.abc import Sequence

from kindaware._batch.results import Ledger


def micro_batches(ledger: Ledger, positions: Sequence[int], max_rows: int) -> list[list[int]]:
    """Divide a group, in order, into batches of at most `max_rows` rows; no request waits for room.

    A request that fits a batch is never cut: it begins a new one if the last has no room for it. One that
    doesn't is cut into slices of `max_rows` rows, of which the last may be shorter and share its batch.

    Args:
        ledger: the ledger of the call, which cuts requests and joins their results.
        positions: positions of the requests that may share a batch; the model batches.
        max_rows: most rows of a batch.

    Returns:
        The positions of each batch, slices by those that the ledger gave them.
    """
    batches: list[list[int]] = []
    room = 0
    for position in positions:
        num_rows = ledger.requests[position].rows or 0
        if num_rows > room or not batches:
            batches.append([])
            room = max_rows
        first, *others = ledger.cut(position, max_rows)
        batches[-1].append(first)
        batches += [[slice_] for slice_ in others]
        # What the last of its batches has left: none if its rows fill it exactly.
        room = (room - num_rows) % max_rows
    return batches
