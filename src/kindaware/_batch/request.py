"""Requests as they were read, and grouped into batches.

Shapes: B is the rows of a batch, b the rows of one request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from kindaware._batch.request_context import RequestContext
from kindaware._batch.request_info import RequestInfo
from kindaware._tensors.bytes_arrays import Value
from kindaware._tensors.rows import kind_of


class HostArray(Mapping[str, Value]):
    """The one input of a request, by its name: a tensor, [b, ...], that is a view of an array.

    The view is made when it is asked for. Where arrays are joined first, it never is.

    Args:
        name: the input's.
        array: in host memory.
    """

    __slots__ = ("array", "name")

    def __init__(self, name: str, array: np.ndarray[Any, Any]) -> None:
        self.name = name
        self.array = array

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
    """One request as it was read.

    Never changed. Not a frozen dataclass, since that takes three times as long to make.

    Attributes:
        origin: what calls of other models pass on; or the id of a request of the library's own.
        inputs: tensors by name, [b, ...] when the model batches; BYTES are numpy arrays of objects. Host
            memory, or the GPU's where Triton hands inputs over there.
        rows: b; None when the model does not batch.
        info: what else it says, where a hook asks for it.
    """

    origin: Any
    inputs: Mapping[str, Value]
    rows: int | None
    info: RequestInfo | None = None

    @property
    def id(self) -> str:
        """The client's request id, for messages; empty if it gave none."""
        return self.origin.request_id if isinstance(self.origin, RequestContext) else str(self.origin)

    def context(self) -> RequestContext | None:
        """Return what calls of other models pass on; None for a request of the library's own."""
        return self.origin if isinstance(self.origin, RequestContext) else None

    def with_inputs(self, inputs: Mapping[str, Value]) -> Request:
        """Return the request with other inputs of as many rows."""
        return replace(self, inputs=inputs)

    def detached(self, *, outlives_execute: bool = False) -> Request:
        """Return the request without Triton's, which would hold its inputs in shared memory.

        Args:
            outlives_execute: whether it is answered after `execute` has returned. Then it has no trace:
                Triton has freed that by then, and a call with it ends the server with signal 11.
                Source: measured on tritonserver 2.51.0.

        Raises:
            RequestError: its id is not UTF-8.
        """
        context = self.context()
        if context is not None and outlives_execute:
            context = replace(context, trace=None)
        return Request(context or self.origin, self.inputs, self.rows, self.info)

    @property
    def is_on_device(self) -> bool:
        """Whether some input is memory of Triton's on a GPU, which it takes back when `execute` returns."""
        tensors = [one for one in self.inputs.values() if isinstance(one, torch.Tensor)]
        return any(tensor.device.type != "cpu" for tensor in tensors)

    def __repr__(self) -> str:
        shapes = {name: list(tensor.shape) for name, tensor in self.inputs.items()}
        return f"Request(id={self.id!r}, rows={self.rows}, shapes={shapes})"


def group(requests: Mapping[int, Request], key_of: Callable[[Request], object]) -> list[list[int]]:
    """Put requests together that can share a forward.

    Args:
        requests: the requests by their position in the call.
        key_of: what requests must have in common; asked only where the model batches.

    Returns:
        Positions by group, in the order of each group's first request; requests keep their order within.
    """
    groups: dict[object, list[int]] = {}
    for position, request in requests.items():
        key: object = position
        if request.rows is not None:
            key = key_of(request)
        groups.setdefault(key, []).append(position)
    return list(groups.values())


def shape_key(request: Request) -> object:
    """What requests have in common whose rows can be joined: names, dtypes, devices, sizes of a row."""
    first = 0 if request.rows is None else 1
    return frozenset((name, kind_of(tensor), tensor.shape[first:]) for name, tensor in request.inputs.items())


def rank_key(request: Request) -> object:
    """What requests have in common that `collate` may join: names, dtypes, devices, number of dimensions."""
    return frozenset((name, kind_of(tensor), tensor.ndim) for name, tensor in request.inputs.items())


def concat_arrays(requests: Sequence[Request]) -> torch.Tensor | None:
    """Do as `concat` does, with arrays; None where some request holds tensors."""
    arrays = [one.inputs.array for one in requests if isinstance(one.inputs, HostArray)]
    if len(arrays) != len(requests):
        return None
    return torch.from_numpy(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))


def halve(positions: list[int]) -> tuple[list[int], list[int]]:
    """Cut a list of positions in two, the first half no shorter than the second."""
    middle = (len(positions) + 1) // 2
    return positions[:middle], positions[middle:]
