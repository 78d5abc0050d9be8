"""What a request says about itself, beside its inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kindaware._errors import RequestError, describe, message

SEQUENCE_START = 1
SEQUENCE_END = 2
"""Bits of `flags`. Source: triton core `tritonserver.h`, TRITONSERVER_REQUEST_FLAG_SEQUENCE_START."""


def readable_id(request: Any) -> str:
    """Give the client's request id for a message; bytes that are not UTF-8 are written as escapes.

    Over HTTP the server takes any bytes for an id, and the getter of Triton's request raises for them.
    Source: measured on tritonserver 2.51.0.
    """
    try:
        return str(request.request_id())
    except UnicodeDecodeError as error:
        return error.object.decode("utf-8", "backslashreplace")


def read_id(request: Any) -> str:
    """Give the client's request id for those who use it, empty if it gave none.

    Raises:
        RequestError: it is not UTF-8.
    """
    try:
        return str(request.request_id())
    except UnicodeDecodeError as error:
        text = message(
            f"request {readable_id(request)!r}",
            expected="an id in UTF-8",
            got=describe(error),
            remedy="give the request another id",
        )
        raise RequestError(text) from None


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """One request of a batch, for a hook that names a parameter `requests`.

    Attributes:
        id: the client's request id, empty if it gave none.
        parameters: the request's own, by name: text, whole numbers, floats and booleans. Those that
            Triton itself reads, such as `timeout` and `sequence_id`, are not among them.
        timeout: microseconds that the client gave; 0 for none.
        correlation_id: the sequence's number or name; 0 or empty for none.
        flags: Triton's bits; `is_start` and `is_end` read them.
        rows: how many rows of the batch are the request's; None when the model does not batch.
        requested_outputs: names of the outputs that the client asked for; all, where it named none.
        response_parameters: to be set in any hook that names `requests`: what the response says beside its
            outputs, by name: text, whole numbers, booleans. When `forward` begins, it has what `preprocess`
            has set and nothing else. For servers from 25.02 on; of an older one the client gets an error.
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

    def _begin_batch(self) -> None:
        """Take back what a batch that has failed has set in `response_parameters`, and keep the rest."""
        if not self._of_preprocess:
            self._of_preprocess.append(dict(self.response_parameters))
        self.response_parameters.clear()
        self.response_parameters.update(self._of_preprocess[0])

    @property
    def is_start(self) -> bool:
        """Whether the request is the first of its sequence."""
        return bool(self.flags & SEQUENCE_START)

    @property
    def is_end(self) -> bool:
        """Whether the request is the last of its sequence."""
        return bool(self.flags & SEQUENCE_END)


def read_sequence(request: Any) -> RequestInfo | None:
    """Read which sequence a request belongs to, and its flags, whatever else it says; None if that fails."""
    try:
        sequence = request.correlation_id()
    except UnicodeDecodeError:  # no request of such a sequence can be read, so nothing is kept for it
        return None
    return RequestInfo(readable_id(request), None, correlation_id=sequence, flags=request.flags())


def read_info(request: Any, rows: int | None) -> RequestInfo:
    """Read what one of Triton's requests says.

    Raises:
        UnicodeDecodeError: some text of it is not UTF-8.
    """
    return RequestInfo(
        id=request.request_id(),
        rows=rows,
        parameters=json.loads(request.parameters()),
        timeout=request.timeout(),
        correlation_id=request.correlation_id(),
        flags=request.flags(),
        requested_outputs=frozenset(request.requested_output_names()),
    )
