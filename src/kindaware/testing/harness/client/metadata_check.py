"""What a client can say about a request besides its inputs."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

from kindaware.testing.harness.failures import HarnessError
from kindaware.testing.harness.pending import ClientRequest

_RESERVED = frozenset(
    {
        "sequence_id",
        "sequence_start",
        "sequence_end",
        "priority",
        "timeout",
        "headers",
        "binary_data_output",
    }
)
_RESERVED_PREFIX = "triton_"
_SEQUENCE_FLAGS = 3


def check_metadata(
    *,
    request_id: Any,
    correlation_id: Any,
    flags: Any,
    timeout: Any,
    parameters: Any,
    requested_outputs: Any,
    trace: Any,
) -> ClientRequest:
    """Return a request without inputs, built from the arguments of `ModelHarness.infer`; see there.

    Raises:
        HarnessError: no client can send it.

    Source: tritonclient `grpc/_utils.py`, _get_inference_request, and the names in `utils/__init__.py`.
    """
    return ClientRequest(
        requested_outputs=_names(requested_outputs),
        request_id=_text("request_id", request_id),
        correlation_id=_correlation_id(correlation_id),
        flags=_integer("flags", flags, _SEQUENCE_FLAGS, "1 for START, 2 for END, or 3 for both"),
        timeout=_integer("timeout", timeout, 2**63 - 1, "whole microseconds"),
        parameters=_parameters(parameters),
        trace=None if trace is None else _text("trace", trace),
    )


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _unsendable(name, "a str", value, "pass text")
    return value


def _integer(name: str, value: Any, highest: int, meaning: str) -> int:
    """Accept whole numbers, numpy's too."""
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or not 0 <= number <= highest:
        raise _unsendable(name, f"an int from 0 to {highest}", value, f"pass {meaning}")
    return number


def _correlation_id(value: Any) -> int | str:
    if isinstance(value, str):
        return value
    return _integer("correlation_id", value, 2**64 - 1, "such a number, or a str")


def _names(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (value,)
    for name in names:
        _text("requested_outputs", name)
    return names


def _parameters(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise _unsendable("parameters", "a dict of str to bool, int, float or str", value, "pass one")
    for key, one in (value or {}).items():
        _check_parameter(key, one)
    return dict(value or {})


def _check_parameter(key: Any, value: Any) -> None:
    if not isinstance(key, str):
        raise _unsendable("parameters", "names of type str", key, "pass text")
    subject = f"parameter {key!r}"
    if key in _RESERVED or key.startswith(_RESERVED_PREFIX):
        raise _unsendable(
            subject,
            "a name that is not the server's own",
            key,
            "rename it, or use the argument of infer for what it means",
        )
    is_long = isinstance(value, int) and not -(2**63) <= value < 2**63
    if is_long or not isinstance(value, (bool, int, float, str)):
        raise _unsendable(subject, "a bool, int of 64 bits, float or str", value, "convert it")


def _unsendable(subject: str, expected: str, value: Any, remedy: str) -> HarnessError:
    return HarnessError.of(
        subject, expected=expected, got=repr(value), remedy=f"{remedy}, since no client can send this"
    )
