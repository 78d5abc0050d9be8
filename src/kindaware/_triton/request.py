"""Triton's requests: their metadata, read only when it is needed."""

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
    """A request whose `origin` is Triton's request; for the other attributes see `Request`.

    Attributes:
        arrived: when Triton passed the request, in seconds of `time.monotonic`.
    """

    # Id and context are read from Triton's request on access: each costs a call, and few models need them.

    arrived: float = 0.0

    @property
    def id(self) -> str:
        """The client's request id, for messages; empty if it sent none."""
        return readable_id(self.origin)

    def context(self) -> RequestContext:
        """Return the context that calls of other models pass on.

        Raises:
            RequestError: the request id is not UTF-8.
        """
        return read_context(self.origin, self.arrived)


class RequestContexts:
    """The contexts of Triton's requests, each read on iterating.

    Args:
        requests: the requests that Triton passes.
        arrived: when Triton passed them, in seconds of `time.monotonic`.
    """

    __slots__ = ("_arrived", "_requests")

    def __init__(self, requests: Sequence[Any], arrived: float) -> None:
        self._requests = requests
        self._arrived = arrived

    def __iter__(self) -> Iterator[RequestContext]:
        return (read_context(request, self._arrived) for request in self._requests)

    def end(self) -> None:
        """Release the requests, whose contexts can't be read any more; see `RequestScope`."""
        self._requests = ()


def read_context(request: Any, arrived: float) -> RequestContext:
    """Return the context of one of Triton's requests.

    Args:
        request: Triton's request.
        arrived: when Triton passed it, in seconds of `time.monotonic`.

    Raises:
        RequestError: the request id is not UTF-8.
    """
    # Microseconds; 0 for no timeout.
    timeout = request.timeout()
    deadline = arrived + timeout / 1e6 if timeout else math.inf
    return RequestContext(read_id(request), request.trace(), deadline)


def readable_id(request: Any) -> str:
    """Return the client's request id for a message, with escapes for bytes that are not UTF-8.

    Over HTTP the server accepts any bytes as an id, and the getter of Triton's request raises for them.
    Source: measured on tritonserver 2.51.0.
    """
    try:
        return str(request.request_id())
    except UnicodeDecodeError as error:
        return error.object.decode("utf-8", "backslashreplace")


def read_id(request: Any) -> str:
    """Return the client's request id, to be passed on; empty if it sent none.

    Raises:
        RequestError: the id is not UTF-8.
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
    """Return only the sequence and flags of a request, for one that can't be read; None if that fails too."""
    try:
        sequence = request.correlation_id()
    except UnicodeDecodeError:
        # No request of such a sequence can ever be read, so there is no state to forget.
        return None
    return RequestInfo(readable_id(request), None, correlation_id=sequence, flags=request.flags())


def read_info(request: Any, rows: int | None) -> RequestInfo:
    """Return the metadata of one of Triton's requests.

    Args:
        request: Triton's request.
        rows: its number of rows; None if the model does not batch.

    Raises:
        UnicodeDecodeError: some of its text is not UTF-8.
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
