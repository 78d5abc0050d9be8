"""What the tests of tracing share: a provider whose spans stay in memory, and how they are read."""

import threading

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

EXPORTER = InMemorySpanExporter()
ON = {"kindaware.tracing": "true", "kindaware.warmup": "off"}
_lock = threading.Lock()
_providers = []


def install():
    """Have the process's provider export to memory; OpenTelemetry allows one per process.

    A model of another test, which has `tracing` on, may have installed one.
    """
    with _lock:
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            trace.set_tracer_provider(TracerProvider())
        provider = trace.get_tracer_provider()
        if provider not in _providers:
            provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
            _providers.append(provider)


def traceparent(number):
    """The header of a client's span: its trace and span ids are the number's digit over and over."""
    return f"00-{str(number) * 32}-{str(number) * 16}-01"


class Seen:
    """The spans that have ended, by the names of the spans around them."""

    def __init__(self):
        self.spans = list(EXPORTER.get_finished_spans())
        self._by_id = {one.context.span_id: one for one in self.spans}

    def path(self, span):
        """Names from the outermost span in, such as `request/execute`; the library's without their prefix."""
        parent = self._by_id.get(span.parent.span_id) if span.parent else None
        name = span.name.removeprefix("kindaware.")
        mark = "" if span.name != name else "@"
        return f"{self.path(parent)}/{mark}{name}" if parent else mark + name

    def paths(self):
        """All of them, in the order in which they began."""
        return [self.path(one) for one in sorted(self.spans, key=lambda one: one.start_time)]

    def all(self, path):
        return [one for one in self.spans if self.path(one) == path]

    def one(self, path):
        (found,) = self.all(path)
        return found


def links(span):
    """Ids of the spans that one is linked with."""
    return {one.context.span_id for one in span.links}
