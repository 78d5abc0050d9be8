"""The current requests of a hook, and the context that calls of other models pass on from them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The context of a request that a call of another model passes on.

    Attributes:
        request_id: the client's request id; empty if it sent none.
        trace: Triton's trace object; None for none.
        deadline: when the client's timeout expires, in seconds of `time.monotonic`; infinite for none.
    """

    request_id: str = ""
    trace: Any = None
    deadline: float = math.inf

    def context(self) -> RequestContext:
        """Return itself."""
        return self


class HasContext(Protocol):
    """Anything that has a request's context."""

    def context(self) -> RequestContext | None:
        """Return the context, read when it is needed; None for a request of the library's own."""


# Not passed as an argument: user code between `forward` and `self.call` doesn't know of it. A context
# variable and not a thread-local, since asynchronous hooks of several requests share a thread.
_current: ContextVar[Iterable[HasContext]] = ContextVar("kindaware_request_context", default=())


set_contexts = _current.set
"""Make these the current requests of the code that follows; returns the token for `reset_contexts`."""

reset_contexts = _current.reset
"""Restore the current requests that `set_contexts` replaced."""


class RequestScope:
    """Makes these the current requests of the code inside, including tasks that it starts.

    Tasks that are still running after the scope has ended have no context any more: Triton has freed the
    trace, and a call with it would crash the server. Source: measured on tritonserver 2.51.0.

    Args:
        requests: the requests; their contexts are read only when a call needs them.
    """

    __slots__ = ("_requests", "_token")
    _token: Token[Iterable[HasContext]]

    def __init__(self, requests: Iterable[HasContext]) -> None:
        self._requests = requests

    def __enter__(self) -> None:
        # This object and not the requests: a task has copied the variable, and must see it emptied.
        self._token = _current.set(self)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
        self._requests = ()

    def __iter__(self) -> Iterator[HasContext]:
        return iter(self._requests)


def current_request_ids() -> list[str]:
    """Return the clients' ids of the current requests, for the log; those without one are left out."""
    ids = []
    for one in _current.get():
        # Of a request whose id is not UTF-8; an error here would take the place of what is to be logged.
        with contextlib.suppress(Exception):
            context = one.context()
            if context is not None and context.request_id:
                ids.append(context.request_id)
    return ids


def current_context() -> RequestContext:
    """Return the context of the current requests; an empty one on threads that a hook has started.

    Of several requests in a batch: id and trace of the first, and the earliest deadline.
    """
    contexts = [context for one in _current.get() if (context := one.context()) is not None]
    if not contexts:
        return RequestContext()
    return RequestContext(contexts[0].request_id, contexts[0].trace, min(one.deadline for one in contexts))
