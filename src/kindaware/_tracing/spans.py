"""`Spans`: the spans of an instance's requests, and those around what is done for them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opentelemetry import trace

from kindaware._batch.stages import BATCH, Stage
from kindaware._tracing.parents import read_parent

PREFIX = "kindaware."
"""What the names of the library's spans begin with; a hook's span has the name of the hook."""


class Spans:
    """The spans of an instance.

    A request has a span of its own, a child of the one that it came with, from its arrival to its last
    response. What is done for one request is a child of that. What is done for several at once is a child of
    the first that is sampled, and is linked with the others.

    Args:
        tracer: makes the spans.
        attributes: of each request's span: which instance it is.
    """

    def __init__(self, tracer: trace.Tracer, attributes: Mapping[str, str]) -> None:
        self.tracer = tracer
        self._attributes = attributes
        # By the id of the request's origin, which is kept so that no other object gets the same id.
        self._open: dict[int, tuple[Any, trace.Span]] = {}

    def open(self, request: Any) -> trace.Span:
        """Begin the span of one of Triton's requests."""
        parent, links = read_parent(request)
        span = self.tracer.start_span(
            PREFIX + "request",
            parent,
            kind=trace.SpanKind.SERVER,
            attributes={**self._attributes, PREFIX + "request_id": _id_of(request)},
            links=links,
        )
        self._open[id(request)] = request, span
        return span

    def move(self, request: Any, origin: Any) -> None:
        """Have the span of one of Triton's requests found by the origin of the library's."""
        _, span = self._open.pop(id(request))
        self._open[id(origin)] = origin, span

    def close(self, origin: Any, *, code: str = "", text: str = "", **attributes: Any) -> None:
        """End the span of a request; a second call does nothing.

        Args:
            origin: Triton's request, or the origin of the library's.
            code: Triton's error code, if the request is answered with an error.
            text: that of the error.
            attributes: further ones, without the prefix.
        """
        _, span = self._open.pop(id(origin), (None, None))
        if span is None:
            return
        span.set_attributes({PREFIX + name: value for name, value in attributes.items()})
        if code:
            span.set_attribute(PREFIX + "code", code)
            span.set_status(trace.StatusCode.ERROR, text)
        span.end()

    def of(self, requests: Iterable[Any]) -> list[trace.Span]:
        """Return the spans of requests, Triton's or the library's, which have one."""
        found = [self._open.get(id(getattr(one, "origin", one))) for one in requests]
        return [one[1] for one in found if one is not None]

    def wrap(self, stage: Stage) -> None:
        """Put a span around the method that implements a stage; its class stays as it is."""
        method = getattr(stage.owner, stage.method)
        self.replace(stage.owner, stage.method, self.around(method, functools.partial(self._stage, stage)))

    @staticmethod
    def replace(owner: Any, name: str, function: Callable[..., Any]) -> None:
        """Replace a method of one object."""
        vars(owner)[name] = function

    @staticmethod
    def around(
        function: Callable[..., Any], scope: Callable[..., AbstractContextManager[Any]]
    ) -> Callable[..., Any]:
        """Return a function such that each call, awaited if it is asynchronous, runs inside a scope.

        Args:
            function: the function.
            scope: returns the scope of a call, given its arguments by position.
        """
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **named: Any) -> Any:
                with scope(*args):
                    return await function(*args, **named)

            return awaited

        @functools.wraps(function)
        def called(*args: Any, **named: Any) -> Any:
            with scope(*args):
                return function(*args, **named)

        return called

    def hook(self, name: str, code: str, *_: Any) -> AbstractContextManager[Any]:
        """Return the span of a call of a hook, inside that of a stage.

        Args:
            name: of the hook.
            code: class and method.
        """
        if not is_in_span():
            return nullcontext()
        return self.tracer.start_as_current_span(name, attributes={"code.function.name": code})

    def _stage(self, stage: Stage, *args: Any) -> AbstractContextManager[Any]:
        """Return the span of a stage; none for the library's own requests, such as those of the warm-up."""
        if stage.requests is None:
            return self._child(stage.name) if is_in_span() else nullcontext()
        spans = self.of(stage.requests(*args))
        if not spans:
            return nullcontext()
        if stage.name == BATCH:
            return self._batch(spans)
        first = first_sampled(spans)
        others = [one for one in spans if one is not first]
        return self._child(stage.name, trace.set_span_in_context(first), others)

    def _batch(self, spans: Sequence[trace.Span]) -> AbstractContextManager[Any]:
        """Return the span of a batch, with links to its requests', and from those of other traces to it."""
        batch = self.tracer.start_span(PREFIX + BATCH, links=_links(spans), attributes=_count(spans))
        context = batch.get_span_context()
        for span in spans:
            if span.get_span_context().trace_id != context.trace_id:
                span.add_link(context)
        return trace.use_span(batch, end_on_exit=True, record_exception=False)

    def _child(
        self, name: str, parent: Any = None, linked: Sequence[trace.Span] = ()
    ) -> AbstractContextManager[Any]:
        # What a hook raises is recorded in its own span.
        return self.tracer.start_as_current_span(
            PREFIX + name,
            parent,
            links=_links(linked),
            attributes=_count([*linked, None]) if linked else None,
            record_exception=False,
        )


def is_in_span() -> bool:
    """Whether the running code belongs to a span."""
    return trace.get_current_span().get_span_context().is_valid


def first_sampled(spans: Sequence[trace.Span]) -> trace.Span:
    """Return the first span that is sampled, so that its children are; the first if none is."""
    return next((one for one in spans if one.get_span_context().trace_flags.sampled), spans[0])


def _links(spans: Sequence[trace.Span]) -> list[trace.Link]:
    return [trace.Link(one.get_span_context()) for one in spans]


def _count(spans: Sequence[Any]) -> dict[str, int]:
    return {PREFIX + "requests": len(spans)}


def _id_of(request: Any) -> str:
    try:
        return str(request.request_id())
    except UnicodeDecodeError:
        return ""  # the reader refuses such a request
