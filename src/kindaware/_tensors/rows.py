"""The rows of several requests concatenated into a batch, and a batch split back into rows.

Shapes: B is the rows of a batch, b the rows of one request.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from kindaware._tensors.bytes_arrays import BytesArray, Value


def kind_of(value: Value) -> object:
    """Return the dtype and device, which rows must share to be concatenated."""
    return (value.dtype, value.device) if isinstance(value, torch.Tensor) else "BYTES"


def concat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Concatenate the requests' rows, [b, ...] each, into [B, ...]; a single tensor is not copied."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def concat_bytes(arrays: Sequence[BytesArray]) -> BytesArray:
    """Concatenate BYTES arrays the way `concat` does tensors."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def concat_into(tensors: Sequence[torch.Tensor], target: torch.Tensor) -> None:
    """Concatenate the requests' rows into existing memory, [B, ...]."""
    if len(tensors) == 1:
        target.copy_(tensors[0])
    else:
        torch.cat(list(tensors), out=target)


def pieces(
    tensors: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], num_bytes: int
) -> Iterator[tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]]:
    """Cut a batch into pieces of roughly equal size: between rows, or within rows that exceed that size.

    Args:
        tensors: the requests' rows, [b, ...] each.
        targets: contiguous memory for the whole batch, [B, ...] each.
        num_bytes: size of a piece; a batch no larger than this is a single piece, whatever its shape.

    Yields:
        For each piece the tensors to concatenate, and the slice of each target that they go into.
    """
    if sum(tensor.nbytes for tensor in tensors) <= num_bytes:
        yield tensors, targets
        return
    row_bytes = math.prod(tensors[0].shape[1:]) * tensors[0].dtype.itemsize
    # A row larger than a piece is cut between elements, which takes a flat view of contiguous memory.
    if row_bytes > num_bytes and all(tensor.is_contiguous() for tensor in tensors):
        tensors = [tensor.view(-1) for tensor in tensors]
        targets = [target.view(-1) for target in targets]
        row_bytes = tensors[0].dtype.itemsize
    num_rows = max(1, num_bytes // row_bytes)
    piece: list[torch.Tensor] = []
    start = stop = 0
    for tensor in tensors:
        # Requests much smaller than a piece are grouped until a piece is full; a larger one is split first.
        for chunk in torch.split(tensor, num_rows) if len(tensor) > num_rows else (tensor,):
            piece.append(chunk)
            stop += len(chunk)
            if stop - start >= num_rows:
                yield piece, [target[start:stop] for target in targets]
                start, piece = stop, []
    if piece:
        yield piece, [target[start:stop] for target in targets]


class Answer(Mapping[str, Value]):
    """One request's share of a batch's outputs: tensors by name, each a view that is made on access.

    Args:
        batch: the batch's outputs, [B, ...] each, contiguous.
        rows: the request's rows.
    """

    __slots__ = ("batch", "rows")

    def __init__(self, batch: Mapping[str, Value], rows: slice) -> None:
        self.batch = batch
        self.rows = rows

    def __getitem__(self, name: str) -> Value:
        return self.batch[name][self.rows]

    def __iter__(self) -> Iterator[str]:
        return iter(self.batch)

    def __len__(self) -> int:
        return len(self.batch)


def split(outputs: Mapping[str, Value], rows: Sequence[int | None]) -> Sequence[Mapping[str, Value]]:
    """Split a batch's outputs, [B, ...] each, into one mapping per request: the inverse of `concat`.

    Args:
        outputs: contiguous tensors and arrays by name.
        rows: b of each request, in the order in which they were concatenated; None for a model that does
            not batch, whose outputs all belong to its only request.

    Returns:
        Views of the outputs. They are contiguous, since rows are sliced along dimension 0.
    """
    if rows[0] is None:
        return [outputs]
    answers = []
    start = 0
    for num_rows in rows:
        stop = start + (num_rows or 0)
        answers.append(Answer(outputs, slice(start, stop)))
        start = stop
    return answers
