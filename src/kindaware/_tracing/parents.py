"""The span that a request comes with: as W3C headers, in its parameters or from Triton's own tracing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context


def read_parent(request: Any) -> tuple[Context, list[trace.Link]]:
    """Return the context of one of Triton's requests, and links to what else it belongs to.

    The parameters come first: `traceparent` is among them if another model has called with it, or if the
    server forwards the client's headers. Else the parent is Triton's span of the request, if the server
    traces with OpenTelemetry and has sampled it. If there are both, Triton's is linked.

    Args:
        request: Triton's request.

    Returns:
        A context without a span if the request has neither.
    """
    from_client = _extract(_parameters(request))
    from_triton = _extract(_triton_context(request))
    if not _span(from_client).is_valid:
        return from_triton, []
    links = [trace.Link(_span(from_triton))] if _span(from_triton).is_valid else []
    return from_client, links


def as_parameters() -> dict[str, str]:
    """Return the current span as parameters of a request, for the model that is called."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


def _extract(carrier: Mapping[str, str]) -> Context:
    # Beginning with an empty context, and not with what is current in this thread.
    return propagate.extract(carrier, Context())


def _span(context: Context) -> trace.SpanContext:
    return trace.get_current_span(context).get_span_context()


def _parameters(request: Any) -> dict[str, str]:
    """Return the parameters that are text; a header forwarded from HTTP has the case of the client."""
    try:
        return _texts(request.parameters())
    except UnicodeDecodeError:
        return {}  # the reader refuses such a request


def _texts(text: str) -> dict[str, str]:
    """Return the members of a JSON object that are text, with names in lower case."""
    found = json.loads(text)
    return {name.lower(): value for name, value in found.items() if isinstance(value, str)}


def _triton_context(request: Any) -> dict[str, str]:
    """Return the headers of Triton's span; empty if the server does not trace the request."""
    text = request.trace().get_context()
    return {} if text is None else _texts(text)
