"""`InferenceTrace`, which a model only hands on."""

from __future__ import annotations

from kindaware.testing.stand_in.pybind.pybind import method, named_as_server, no_constructor, pybind11_object


@named_as_server
class InferenceTrace(pybind11_object):
    """What a request is traced by; its slot holds the context, or None."""

    __slots__ = ()
    __init__ = no_constructor

    @method(returns="object")
    def get_context(self) -> str | None:
        """Give the context of OpenTelemetry as JSON, or None without such tracing."""
        context: str | None = self._kindaware
        return context
