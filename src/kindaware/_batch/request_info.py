"""`RequestInfo`: the metadata of a request, for hooks that ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SEQUENCE_START = 1
SEQUENCE_END = 2
"""Bits of `flags`. Source: triton core `tritonserver.h`, TRITONSERVER_REQUEST_FLAG_SEQUENCE_START."""


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """Metadata of one request, for a hook that has a parameter `requests`.

    Attributes:
        id: the client's request id; empty if it sent none.
        rows: number of rows of the batch that belong to the request; None if the model does not batch.
        parameters: the request's parameters by name: text, whole numbers, floats and booleans. Those that
            Triton itself reads, such as `timeout` and `sequence_id`, are not among them.
        timeout: the client's timeout in microseconds; 0 for none.
        correlation_id: number or name of the sequence; 0 or empty for none.
        flags: Triton's flag bits; `is_start` and `is_end` read them.
        requested_outputs: names of the outputs that the client requested; all of them if it named none.
        response_parameters: parameters of the response, by name: text, whole numbers, booleans. Any hook that
            has a parameter `requests` may set them. When `forward` begins, they are those that `preprocess`
            has set. Requires Triton 25.02 or newer; with an older one the client gets an error.
            Source: python_backend `pb_stub.cc`.
    """

    id: str
    rows: int | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    timeout: int = 0
    correlation_id: int | str = 0
    flags: int = 0
    requested_outputs: frozenset[str] = frozenset()
    response_parameters: dict[str, bool | int | str] = field(default_factory=dict, compare=False)
    _of_preprocess: list[dict[str, bool | int | str]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    @property
    def is_start(self) -> bool:
        """Whether the request is the first of its sequence."""
        return bool(self.flags & SEQUENCE_START)

    @property
    def is_end(self) -> bool:
        """Whether the request is the last of its sequence."""
        return bool(self.flags & SEQUENCE_END)


def begin_batch(info: RequestInfo) -> None:
    """Reset `response_parameters` to what `preprocess` has set, dropping what a failed batch has set."""
    # Not a method, which users would see. A list that holds at most one copy: the dataclass is frozen.
    if not info._of_preprocess:
        info._of_preprocess.append(dict(info.response_parameters))
    info.response_parameters.clear()
    info.response_parameters.update(info._of_preprocess[0])
