"""On whose behalf a hook works: what calls of other models take over from the request."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Any, Protocol

from kindaware._batch.request_info import read_id


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What is passed on with a call.

    Attributes:
        request_id: the client's, empty if it gave none.
        trace: Triton's object; None for none.
        deadline: when the time that the client gave is over, as `time.monotonic` counts; infinite for none.
    """

    request_id: str = ""
    trace: Any = None
    deadline: float = math.inf

    @classmethod
    def read(cls, request: Any, arrived: float) -> RequestContext:
        """Read it from a request of Triton's that was handed over at this time.

        Raises:
            RequestError: its id is not UTF-8.
        """
        timeout = request.timeout()
        deadline = arrived + timeout / 1e6 if timeout else math.inf
        return cls(read_id(request), request.trace(), deadline)

    def context(self) -> RequestContext:
        """Give itself."""
        return self


class HasContext(Protocol):
    """A request, as far as calls of other models are concerned."""

    def context(self) -> RequestContext | None:
        """Read the context; only when something is passed on. None for a request of the library's own."""


_current: ContextVar[Iterable[HasContext]] = ContextVar("kindaware_caller", default=())


set_contexts = _current.set
"""Make requests those that the code behind it works for; gives the token for `reset_contexts`."""

reset_contexts = _current.reset
"""End what `set_contexts` has begun."""


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
        return (RequestContext.read(request, self._arrived) for request in self._requests)

    def end(self) -> None:
        """Let go of the requests: what runs on, such as a task that a hook has left, has no context.

        A trace that Triton has freed would end the server. Source: measured on tritonserver 2.51.0.
        """
        self._requests = ()


class RequestScope:
    """Make these the requests that the code inside works for, coroutines that begin there included.

    What still runs behind it has no context any more; see `RequestContexts.end`.

    Args:
        requests: asked for their contexts when something is passed on.
    """

    __slots__ = ("_requests", "_token")
    _token: Token[Iterable[HasContext]]

    def __init__(self, requests: Iterable[HasContext]) -> None:
        self._requests = requests

    def __enter__(self) -> None:
        self._token = _current.set(self)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
        self._requests = ()

    def __iter__(self) -> Iterator[HasContext]:
        return iter(self._requests)


def current_context() -> RequestContext:
    """Give the context on whose behalf this code runs; an empty one for threads that a hook has started.

    Of several requests that share a batch: id and trace of the first, the earliest deadline.
    """
    contexts = [context for one in _current.get() if (context := one.context()) is not None]
    if not contexts:
        return RequestContext()
    return RequestContext(contexts[0].request_id, contexts[0].trace, min(one.deadline for one in contexts))
