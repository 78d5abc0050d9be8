"""What a callable returned for an example, as named outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kindaware._authoring.example_values import ExampleValue
from kindaware._errors import ConfigError

ONE, SEQUENCE, NAMED = "one", "sequence", "named"
"""Forms of a result: the value of the only output, a tuple or list of values, values by name."""


@dataclasses.dataclass(frozen=True)
class ExampleResult:
    """The outputs of one run.

    Args:
        form: one of the names above.
        outputs: by name.
        left_out: names of what was returned and is no output: it is None, or was not asked for.
    """

    form: str
    outputs: dict[str, ExampleValue]
    left_out: tuple[str, ...] = ()


def read_result(returned: Any, subject: str, wanted: Sequence[str] | None = None) -> ExampleResult:
    """Name what a callable returned.

    Args:
        returned: a value; a tuple or list of them; or a mapping, dataclass or named tuple.
        subject: who returned it, for messages.
        wanted: names of the outputs to keep; by default all that are not None.

    Raises:
        ConfigError: one of them is nothing that a request can be answered with, or `wanted` has another name.
    """
    form, named = name_values(returned)
    if wanted is not None:
        unknown = [name for name in wanted if name not in named]
        if unknown:
            raise ConfigError.of(
                f"{subject} outputs",
                expected=f"names out of {list(named)}",
                got=repr(unknown),
                remedy="correct them",
            )
    kept = [
        name for name, value in named.items() if (value is not None if wanted is None else name in wanted)
    ]
    if not kept:
        raise ConfigError.of(
            subject,
            expected="at least one output",
            got=f"{type(returned).__name__} without any",
            remedy="return a tensor, a tuple of tensors, or a mapping of them",
        )
    outputs = {name: _look(named[name], name, subject, named) for name in kept}
    return ExampleResult(form, outputs, tuple(name for name in named if name not in kept))


def name_values(returned: Any) -> tuple[str, dict[str, Any]]:
    """Return the form of a result, and its values by output name; those without a name are numbered."""
    if isinstance(returned, Mapping):
        return NAMED, {str(name): value for name, value in returned.items()}
    if dataclasses.is_dataclass(returned) and not isinstance(returned, type):
        fields = dataclasses.fields(returned)
        return NAMED, {field.name: getattr(returned, field.name) for field in fields}
    if isinstance(returned, tuple) and hasattr(returned, "_fields"):
        return NAMED, dict(zip(returned._fields, returned, strict=True))
    if isinstance(returned, (tuple, list)) and not are_texts(returned):
        # torch's own named tuples, such as that of max, have names in another place.
        names = ["OUTPUT"] if len(returned) == 1 else [f"OUTPUT{n}" for n in range(len(returned))]
        return SEQUENCE, dict(zip(names, returned, strict=True))
    return ONE, {"OUTPUT": returned}


def are_texts(value: Any) -> bool:
    """Return whether this is a list of texts, or of such lists."""
    is_list = isinstance(value, list) and bool(value)
    return is_list and all(isinstance(one, (str, bytes)) or are_texts(one) for one in value)


def _look(value: Any, name: str, subject: str, named: Mapping[str, Any]) -> ExampleValue:
    if are_texts(value) and isinstance(value[0], list):
        value = np.array(value, dtype=object)
    try:
        return ExampleValue.of(value, f"{subject} output {name!r}")
    except ConfigError as error:
        good = [one for one, other in named.items() if _can_be_served(other)]
        if not good:
            raise
        raise ConfigError(f"{error}; or name the outputs to serve: outputs={good}") from None


def _can_be_served(value: Any) -> bool:
    try:
        ExampleValue.of(value, "")
    except ConfigError:
        return False
    return True
