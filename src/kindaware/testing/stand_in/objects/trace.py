"""`InferenceTrace`, which a model can only pass on."""

from __future__ import annotations

from kindaware.testing.stand_in.pybind.pybind import method, named_as_server, no_constructor, pybind11_object


@named_as_server
class InferenceTrace(pybind11_object):
    """The trace of a request; its slot holds the context, or None."""

    __slots__ = ()
    __init__ = no_constructor

    @method(returns="object")
    def get_context(self) -> str | None:
        """Return the OpenTelemetry context as JSON, or None without OpenTelemetry tracing."""
        context: str | None = self._kindaware
        return context
