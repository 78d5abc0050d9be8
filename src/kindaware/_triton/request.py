"""Triton's requests: what they say beside their inputs, read when something asks for it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kindaware._batch.request import Request
from kindaware._batch.request_context import RequestContext
from kindaware._batch.request_info import RequestInfo
from kindaware._errors import RequestError, describe, message


@dataclass(slots=True, eq=False, repr=False)
class TritonRequest(Request):
    """A request as Triton handed it over, which is its `origin`; for the other attributes see `Request`.

    Attributes:
        arrived: when it was handed over, as `time.monotonic` counts.
    """

    arrived: float = 0.0

    @property
    def id(self) -> str:
        """The client's request id, for messages; empty if it gave none."""
        return readable_id(self.origin)

    def context(self) -> RequestContext:
        """Return what calls of other models pass on.

        Raises:
            RequestError: its id is not UTF-8.
        """
        return read_context(self.origin, self.arrived)


class RequestContexts:
    """The contexts of Triton's requests, each read when something asks for it.

    Args:
        requests: as Triton hands them over.
        arrived: when that was, as `time.monotonic` counts.
    """

    __slots__ = ("_arrived", "_requests")

    def __init__(self, requests: Sequence[Any], arrived: float) -> None:
        self._requests = requests
        self._arrived = arrived

    def __iter__(self) -> Iterator[RequestContext]:
        return (read_context(request, self._arrived) for request in self._requests)

    def end(self) -> None:
        """Let go of the requests; see `RequestScope`."""
        self._requests = ()


def read_context(request: Any, arrived: float) -> RequestContext:
    """Read what calls of other models pass on from a request that was handed over at this time.

    Raises:
        RequestError: its id is not UTF-8.
    """
    timeout = request.timeout()
    deadline = arrived + timeout / 1e6 if timeout else math.inf
    return RequestContext(read_id(request), request.trace(), deadline)


def readable_id(request: Any) -> str:
    """Return the client's request id for a message; bytes that are not UTF-8 are written as escapes.

    Over HTTP the server takes any bytes for an id, and the getter of Triton's request raises for them.
    Source: measured on tritonserver 2.51.0.
    """
    try:
        return str(request.request_id())
    except UnicodeDecodeError as error:
        return error.object.decode("utf-8", "backslashreplace")


def read_id(request: Any) -> str:
    """Return the client's request id for those who use it, empty if it gave none.

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
