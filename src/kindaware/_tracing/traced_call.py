"""Calls of other models: a span for each, which the called model's spans are children of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry import trace

from kindaware._tracing.parents import as_parameters
from kindaware._tracing.spans import PREFIX, Spans
from kindaware._triton.bls import Calls


def trace_calls(calls: Calls, spans: Spans) -> None:
    """Put a span around each call of another model, and pass it on in the call's parameters."""
    new_request: Callable[..., tuple[Any, Any]] = calls.new_request

    def traced(model: str, *args: Any) -> tuple[Any, Any]:
        *others, parameters = args
        span = spans.tracer.start_span(
            f"call {model}", kind=trace.SpanKind.CLIENT, attributes={PREFIX + "called_model": model}
        )
        try:
            with trace.use_span(span):
                passed = {**as_parameters(), **(parameters or {})}
                adapter, request = new_request(model, *others, passed)
        except BaseException:
            span.end()
            raise
        return adapter, TracedCall(request, span)

    spans.replace(calls, "new_request", traced)


class TracedCall:
    """A request to another model whose execution ends a span.

    Args:
        request: Triton's.
        span: the span of the call.
    """

    def __init__(self, request: Any, span: trace.Span) -> None:
        self._request = request
        self._span = span

    def exec(self, decoupled: bool = False) -> Any:
        """Execute the request, and end the span; that of a stream ends with the last response."""
        try:
            responses = self._request.exec(decoupled=decoupled)
        except BaseException as error:
            _end(self._span, str(error))
            raise
        if decoupled:
            return TracedResponses(responses, self._span)
        _end(self._span, _error_of(responses))
        return responses


class TracedResponses(Iterator[Any]):
    """The responses to a call, whose end ends a span.

    Args:
        responses: Triton's iterator.
        span: the span of the call.
    """

    def __init__(self, responses: Any, span: trace.Span) -> None:
        self._responses = responses
        self._span = span
        self._error = ""
        self._num_responses = 0

    def __next__(self) -> Any:
        try:
            response = next(self._responses)
        except BaseException as error:
            if not isinstance(error, StopIteration):
                self._error = str(error)
            self._span.set_attribute(PREFIX + "responses", self._num_responses)
            _end(self._span, self._error)
            raise
        self._num_responses += 1
        self._error = self._error or _error_of(response)
        return response

    def __getattr__(self, name: str) -> Any:
        # `cancel`, which only newer servers have.
        return getattr(self._responses, name)


def _error_of(response: Any) -> str:
    return str(response.error().message()) if response.has_error() else ""


def _end(span: trace.Span, error: str) -> None:
    if error:
        span.set_status(trace.StatusCode.ERROR, error)
    span.end()
