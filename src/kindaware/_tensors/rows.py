"""Rows of several requests concatenated into a batch, and a batch split into rows again.

Shapes: B is the rows of a batch, b the rows of one request.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from kindaware._tensors.bytes_arrays import BytesArray, Value


def kind_of(value: Value) -> object:
    """Data type and device, which must be the same where rows are joined."""
    return (value.dtype, value.device) if isinstance(value, torch.Tensor) else "BYTES"


def concat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join the requests' rows, [b, ...] each, into [B, ...]; a single tensor is taken as it is."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def concat_bytes(arrays: Sequence[BytesArray]) -> BytesArray:
    """Do as `concat` does, with BYTES."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def concat_into(tensors: Sequence[torch.Tensor], target: torch.Tensor) -> None:
    """Join the requests' rows in memory that is there, [B, ...]."""
    if len(tensors) == 1:
        target.copy_(tensors[0])
    else:
        torch.cat(list(tensors), out=target)


def pieces(
    tensors: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], num_bytes: int
) -> Iterator[tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]]:
    """Cut a batch into pieces of about a size: at rows, or within larger ones that are contiguous.

    Args:
        tensors: the requests' rows, [b, ...] each.
        targets: contiguous memory for the whole batch, [B, ...] each.
        num_bytes: of a piece; a batch of no more is one piece, whatever its dimensions.

    Yields:
        For each piece the tensors to concat, and its place in each of the targets.
    """
    if sum(tensor.nbytes for tensor in tensors) <= num_bytes:
        yield tensors, targets
        return
    row_bytes = math.prod(tensors[0].shape[1:]) * tensors[0].dtype.itemsize
    if row_bytes > num_bytes and all(tensor.is_contiguous() for tensor in tensors):
        tensors = [tensor.view(-1) for tensor in tensors]
        targets = [target.view(-1) for target in targets]
        row_bytes = tensors[0].dtype.itemsize
    num_rows = max(1, num_bytes // row_bytes)
    piece: list[torch.Tensor] = []
    start = stop = 0
    for tensor in tensors:
        for chunk in torch.split(tensor, num_rows) if len(tensor) > num_rows else (tensor,):
            piece.append(chunk)
            stop += len(chunk)
            if stop - start >= num_rows:
                yield piece, [target[start:stop] for target in targets]
                start, piece = stop, []
    if piece:
        yield piece, [target[start:stop] for target in targets]


class Answer(Mapping[str, Value]):
    """What one request gets of a batch: tensors by name, views that are made when they are asked for.

    Args:
        batch: the batch's outputs, [B, ...] each, contiguous.
        rows: which of them.
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
    """Cut a batch's outputs, [B, ...] each, into one mapping per request: the inverse of `concat`.

    Args:
        outputs: contiguous tensors and arrays by name.
        rows: b of each request, in the order in which they were gathered; None for a model that does not
            batch, whose outputs belong to its one request whole.

    Returns:
        Views of the outputs, contiguous as they are.
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
