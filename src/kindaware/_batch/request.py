"""Requests in the library's own form, and their grouping into batches.

Shapes: B is the rows of a batch, b the rows of one request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from kindaware._batch.request_context import RequestContext
from kindaware._batch.request_info import RequestInfo
from kindaware._tensors.bytes_arrays import Value
from kindaware._tensors.rows import Rows, kind_of


class HostArray(Mapping[str, Value]):
    """The inputs of a request that has a single one: a tensor by name, [b, ...], that is a view of an array.

    The tensor is created on access; if the arrays of several requests are concatenated, it never is.

    Args:
        name: name of the input.
        array: its value, in host memory.
    """

    __slots__ = ("array", "name")

    def __init__(self, name: str, array: np.ndarray[Any, Any]) -> None:
        self.name = name
        self.array = array

    def at(self, place: slice) -> HostArray:
        """Return some of the rows."""
        return HostArray(self.name, self.array[place])

    def __getitem__(self, name: str) -> Value:
        if name != self.name:
            raise KeyError(name)
        return torch.from_numpy(self.array)

    def __iter__(self) -> Iterator[str]:
        return iter((self.name,))

    def __len__(self) -> int:
        return 1


@dataclass(slots=True, eq=False)
class Request:
    """One request as it was read; immutable by convention.

    Attributes:
        origin: the request's `RequestContext`; or the id of a request of the library's own, as text.
        inputs: tensors by name, [b, ...] if the model batches; BYTES are numpy arrays of dtype object. They
            lie in host memory, or in GPU memory if Triton passes inputs there. `preprocess` may have put
            others in their place, ragged rows among them.
        rows: b; None if the model does not batch.
        info: metadata of the request, if a hook asks for it.
        row_cost: what the hook `row_cost` says; None without it.
        is_continued: whether it is a slice of a client's request, and not the first of its slices.
    """

    # Not a frozen dataclass, which takes three times as long to create.

    origin: Any
    inputs: Mapping[str, Rows]
    rows: int | None
    info: RequestInfo | None = None
    row_cost: float | None = field(default=None, kw_only=True)
    is_continued: bool = field(default=False, kw_only=True)

    @property
    def id(self) -> str:
        """The client's request id, for messages; empty if it sent none."""
        return self.origin.request_id if isinstance(self.origin, RequestContext) else str(self.origin)

    def context(self) -> RequestContext | None:
        """Return the context that calls of other models pass on; None for a request of the library's own."""
        return self.origin if isinstance(self.origin, RequestContext) else None

    def with_inputs(self, inputs: Mapping[str, Rows]) -> Request:
        """Return a copy of the request with other inputs, of the same number of rows."""
        return replace(self, inputs=inputs)

    def slices(self, max_rows: int) -> list[Request]:
        """Return the rows of the request as requests of at most so many rows; the model batches.

        Their inputs are views, and they share the request's `response_parameters`.
        """
        num_rows = self.rows or 0
        places = [slice(start, min(start + max_rows, num_rows)) for start in range(0, num_rows, max_rows)]
        return [self._rows_at(place) for place in places]

    def _rows_at(self, place: slice) -> Request:
        num_rows = place.stop - place.start
        return replace(
            self,
            inputs=self.inputs.at(place)
            if isinstance(self.inputs, HostArray)
            else {name: one[place] for name, one in self.inputs.items()},
            rows=num_rows,
            info=self.info and replace(self.info, rows=num_rows),
            is_continued=place.start > 0,
        )

    def detached(self, *, outlives_execute: bool = False) -> Request:
        """Return a copy that doesn't reference Triton's request, which would keep its shared memory in use.

        Args:
            outlives_execute: whether the request is answered after `execute` has returned. If so, the copy
                has no trace: Triton frees it then, and a call with it crashes the server with signal 11.
                Source: measured on tritonserver 2.51.0.

        Raises:
            RequestError: the request id is not UTF-8.
        """
        context = self.context()
        if context is not None and outlives_execute:
            context = replace(context, trace=None)
        return Request(context or self.origin, self.inputs, self.rows, self.info)

    @property
    def is_on_device(self) -> bool:
        """Whether any input lies in Triton's memory on a GPU, which it reclaims when `execute` returns."""
        tensors = [one for one in self.inputs.values() if isinstance(one, torch.Tensor)]
        return any(tensor.device.type != "cpu" for tensor in tensors)

    def __repr__(self) -> str:
        shapes = {name: list(tensor.shape) for name, tensor in self.inputs.items()}
        return f"Request(id={self.id!r}, rows={self.rows}, shapes={shapes})"


def group(requests: Mapping[int, Request], key_of: Callable[[Request], object]) -> list[list[int]]:
    """Group requests that can share a forward.

    Args:
        requests: the requests, by their position in the call.
        key_of: returns what requests of a group must have in common; called only if the model batches.

    Returns:
        The positions of each group, groups in the order of their first request, positions ascending.
    """
    groups: dict[object, list[int]] = {}
    for position, request in requests.items():
        # Without a batch dimension each request is a group of its own.
        key: object = position
        if request.rows is not None:
            key = key_of(request)
        groups.setdefault(key, []).append(position)
    return list(groups.values())


def shape_key(request: Request) -> object:
    """Return the key of requests whose rows can be concatenated: names, dtypes, devices and row shapes.

    A frozenset, since clients may send the same inputs in any order.
    """
    first = 0 if request.rows is None else 1
    return frozenset((name, kind_of(tensor), tensor.shape[first:]) for name, tensor in request.inputs.items())


def rank_key(request: Request) -> object:
    """Return the key of requests that `collate` may join: names, dtypes, devices and number of dimensions."""
    return frozenset((name, kind_of(tensor), tensor.ndim) for name, tensor in request.inputs.items())


def concat_arrays(requests: Sequence[Request]) -> torch.Tensor | None:
    """Concatenate the rows of requests that hold arrays, [B, ...]; None if any request holds tensors."""
    arrays = [one.inputs.array for one in requests if isinstance(one.inputs, HostArray)]
    if len(arrays) != len(requests):
        return None
    return torch.from_numpy(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))


def halve(positions: list[int]) -> tuple[list[int], list[int]]:
    """Split a list of positions in two halves; the first is never shorter than the second."""
    middle = (len(positions) + 1) // 2
    return positions[:middle], positions[middle:]
