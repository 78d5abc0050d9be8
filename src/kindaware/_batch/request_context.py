"""The requests that a hook works for, and what calls of other models pass on from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Any, Protocol


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

    def context(self) -> RequestContext:
        """Return itself."""
        return self


class HasContext(Protocol):
    """A request, as far as calls of other models are concerned."""

    def context(self) -> RequestContext | None:
        """Return the context, read when something is passed on; None for a request of the library's own."""


_current: ContextVar[Iterable[HasContext]] = ContextVar("kindaware_caller", default=())


set_contexts = _current.set
"""Make requests those that the code after it works for; returns the token for `reset_contexts`."""

reset_contexts = _current.reset
"""End what `set_contexts` has begun."""


class RequestScope:
    """Make these the requests that the code inside works for, coroutines that begin there included.

    What still runs after it, such as a task that a hook has started, has no context any more: Triton has
    freed the trace, and a call with it would end the server. Source: measured on tritonserver 2.51.0.

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
    """Return the context of the requests that this code works for; an empty one on a hook's own threads.

    Of several requests that share a batch: id and trace of the first, the earliest deadline.
    """
    contexts = [context for one in _current.get() if (context := one.context()) is not None]
    if not contexts:
        return RequestContext()
    return RequestContext(contexts[0].request_id, contexts[0].trace, min(one.deadline for one in contexts))
