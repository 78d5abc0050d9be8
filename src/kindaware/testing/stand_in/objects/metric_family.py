"""`pb_utils.MetricFamily`, and the Metrics that it makes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from kindaware.testing.stand_in.host.errors import RefusalError
from kindaware.testing.stand_in.host.host import Host
from kindaware.testing.stand_in.host.metrics import Family, Value
from kindaware.testing.stand_in.objects.triton_error import TritonModelException
from kindaware.testing.stand_in.pybind.convert import NO_CAST, to_float, to_instance, to_object, to_str
from kindaware.testing.stand_in.pybind.enum import new_enum
from kindaware.testing.stand_in.pybind.pybind import (
    MODULE,
    Arg,
    make,
    method,
    named_as_server,
    no_constructor,
    pybind11_object,
)

KINDS = ("COUNTER", "GAUGE", "HISTOGRAM")
MetricKind = new_enum("MetricKind", KINDS)
"""Type of `MetricFamily.COUNTER` and the others."""

_ORPHAN = (
    "Invalid metric operation as the corresponding 'MetricFamily' has been deleted. The 'MetricFamily' "
    "object should be deleted AFTER its corresponding 'Metric' objects have been deleted."
)


def refusal(host: Host, prefix: str, reason: object) -> TritonModelException:
    """Return the error that a request to the server ends with."""
    return TritonModelException(
        f"{prefix}: Failed to process the request for model '{host.instance_name}', message: {reason}"
    )


def check_answers(host: Host, what: str) -> None:
    """Make sure that somebody answers requests to the server in this phase.

    Raises:
        TritonContractError: nobody does, and the model never loads.
    """
    if host.phase in ("import", "auto_complete"):
        raise host.violation(
            f"never answer: {what} is called while the model is imported or auto-completed",
            "call it in initialize or later",
        )


@dataclass(slots=True, eq=False)
class FamilyState:
    """A handle on a family; keeps the values of its metrics."""

    family: Family
    values: list[Value] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class MetricState:
    """A handle on a value, of use as long as its MetricFamily object lives."""

    handle: weakref.ReferenceType[Any]
    value: Value


@named_as_server
class MetricFamily(pybind11_object):
    """Metrics of one name and kind."""

    __slots__ = ()
    _constants = frozenset(KINDS)
    COUNTER: ClassVar[Any]
    GAUGE: ClassVar[Any]
    HISTOGRAM: ClassVar[Any]

    @method(
        Arg("name", "str", to_str),
        Arg("description", "str", to_str),
        Arg("kind", f"{MODULE}.MetricKind", to_instance(MetricKind)),
    )
    def __init__(self, name: str, description: str, kind: Any) -> None:
        host = self._host
        check_answers(host, "MetricFamily")
        try:
            self._kindaware = FamilyState(host.metrics.find_family(name, description, kind.name))
        except RefusalError as error:
            raise refusal(host, "Error when creating MetricFamily", error) from None

    @method(
        Arg("labels", "object", to_object, None),
        Arg("buckets", "object", to_object, None),
        returns=f"{MODULE}.Metric",
    )
    def Metric(self, labels: Any = None, buckets: Any = None) -> Any:  # noqa: N802 - the server's name
        """Return a metric; metrics with equal labels share a value."""
        host, state = self._host, self._kindaware
        if labels is not None and not isinstance(labels, dict):
            raise TritonModelException("Failed to create metric. Labels must be a dictionary.")
        try:
            value = state.family.find_value(labels or {}, _check_buckets(state.family.kind, buckets))
        except RefusalError as error:
            raise refusal(host, "Error when creating Metric", error) from None
        state.values.append(value)
        return make(host.classes.Metric, MetricState(weakref.ref(self), value))


# Past the metaclass, which lets nobody set a constant.
for _name, _member in MetricKind.__members__.items():
    type.__setattr__(MetricFamily, _name, _member)


def _check_buckets(kind: str, buckets: Any) -> list[float]:
    """Return the boundaries, none for the kinds that have none."""
    if kind != "HISTOGRAM":
        if buckets is not None:
            raise TritonModelException("Failed to create metric. Unexpected buckets found.")
        return []
    if buckets is None:
        raise TritonModelException("Failed to create metric. Missing required buckets.")
    if not isinstance(buckets, list):
        raise TritonModelException("Failed to create metric. Buckets must be a list.")
    try:
        return [to_float(boundary) for boundary in buckets]
    except Exception:
        raise RuntimeError(NO_CAST) from None


@named_as_server
class Metric(pybind11_object):
    """One value with its labels."""

    __slots__ = ()
    __init__ = no_constructor

    @method(Arg("arg0", "float", to_float))
    def increment(self, value: float) -> None:
        """Add to a counter or gauge."""

        def add(target: Value, kind: str) -> None:
            if kind == "COUNTER" and value < 0:
                raise RefusalError(
                    "TRITONSERVER_METRIC_KIND_COUNTER can only be incremented monotonically by non-negative "
                    "values."
                )
            target.number += value

        _change(self, "increment metric value", "Increment", ("COUNTER", "GAUGE"), add)

    @method(Arg("arg0", "float", to_float))
    def set(self, value: float) -> None:
        """Set a gauge."""
        _change(
            self, "set metric value", "Set", ("GAUGE",), lambda target, _: setattr(target, "number", value)
        )

    @method(Arg("arg0", "float", to_float))
    def observe(self, value: float) -> None:
        """Add an observation to a histogram."""
        _change(
            self, "observe metric value", "Observe", ("HISTOGRAM",), lambda target, _: target.observe(value)
        )

    @method(returns="float")
    def value(self) -> float:
        """Read a counter or gauge."""
        _change(self, "get metric value", "Value", ("COUNTER", "GAUGE"), lambda *_: None)
        return float(self._kindaware.value.number)


def _change(
    metric: Metric, what: str, verb: str, kinds: tuple[str, ...], change: Callable[[Value, str], None]
) -> None:
    """Do something to a value that the kind of its family allows."""
    state: MetricState = metric._kindaware
    handle = state.handle()
    if handle is None:
        raise TritonModelException(f"Failed to {what}: {_ORPHAN}")
    family: Family = handle._kindaware.family
    try:
        if family.kind not in kinds:
            raise RefusalError(f"TRITONSERVER_METRIC_KIND_{family.kind} does not support {verb}")
        with family.lock:
            change(state.value, family.kind)
    except RefusalError as error:
        raise refusal(metric._host, f"Failed to {what}", error) from None
