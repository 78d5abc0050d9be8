"""The rows of several requests concatenated into a batch, and a batch split back into rows.

Shapes: B is the rows of a batch, b the rows of one request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kindaware._tensors.bytes_arrays import BytesArray, Value


@dataclass(frozen=True, slots=True, eq=False)
class RaggedRows:
    """The rows of one request, whose sizes may differ, as `preprocess` returned them.

    Attributes:
        rows: b tensors or BYTES arrays without the batch dimension, of one kind and number of dimensions.
    """

    rows: Sequence[Value]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the rows padded to the largest of them, [b, ...]."""
        return len(self.rows), *(max(sizes) for sizes in zip(*self.row_shapes, strict=True))

    @property
    def ndim(self) -> int:
        """The number of dimensions, the batch dimension counted."""
        return 1 + self.rows[0].ndim

    @property
    def row_shapes(self) -> list[tuple[int, ...]]:
        """The shape of each row."""
        return [tuple(row.shape) for row in self.rows]

    def __getitem__(self, place: slice) -> RaggedRows:
        """Return some of the rows."""
        return RaggedRows(self.rows[place])

    def map(self, function: Callable[[Value], Value]) -> RaggedRows:
        """Return the rows with a function applied to each."""
        return RaggedRows([function(row) for row in self.rows])


Output = Value | list[Value]
"""An output of a batch, [B, ...], or one value per request, [b, ...] each, whose sizes may differ."""

Rows = Value | RaggedRows
"""The rows of one request: joined, [b, ...], or apart."""


def joinable(values: Sequence[Rows]) -> list[Value]:
    """Return the requests' rows as values of shape [b, ...]; each of the ragged ones as [1, ...]."""
    pieces: list[Value] = []
    for value in values:
        if isinstance(value, RaggedRows):
            pieces += [row[None] for row in value.rows]
        else:
            pieces.append(value)
    return pieces


def kind_of(value: Rows) -> object:
    """Return the dtype and device, which rows must share to be concatenated."""
    if isinstance(value, RaggedRows):
        value = value.rows[0]
    return (value.dtype, value.device) if isinstance(value, torch.Tensor) else "BYTES"


def concat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Concatenate the requests' rows, [b, ...] each, into [B, ...]; a single tensor is not copied."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def concat_bytes(arrays: Sequence[BytesArray]) -> BytesArray:
    """Concatenate BYTES arrays the way `concat` does tensors."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def concat_values(values: Sequence[Any]) -> Value:
    """Concatenate values of one kind, tensors or BYTES arrays."""
    return concat(values) if isinstance(values[0], torch.Tensor) else concat_bytes(values)


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


def split(outputs: Mapping[str, Output], rows: Sequence[int | None]) -> Sequence[Mapping[str, Value]]:
    """Split a batch's outputs, [B, ...] each, into one mapping per request: the inverse of `concat`.

    Args:
        outputs: contiguous tensors and arrays by name, or a list of one per request.
        rows: b of each request, in the order in which they were concatenated; None for a model that does
            not batch, whose outputs all belong to its only request.

    Returns:
        Views of the outputs. They are contiguous, since rows are sliced along dimension 0.
    """
    if rows[0] is None:
        return [{name: value[0] if isinstance(value, list) else value for name, value in outputs.items()}]
    slices: list[slice] = []
    start = 0
    for num_rows in rows:
        slices.append(slice(start, start := start + (num_rows or 0)))
    if any(isinstance(value, list) for value in outputs.values()):
        return [
            {name: value[place] if isinstance(value, list) else value[own] for name, value in outputs.items()}
            for place, own in enumerate(slices)
        ]
    joined: Any = outputs
    return [Answer(joined, own) for own in slices]
