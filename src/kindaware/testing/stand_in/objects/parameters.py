"""Parameters of requests and responses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from kindaware.testing.stand_in.host.errors import RefusalError
from kindaware.testing.stand_in.objects.triton_error import TritonModelException

_HALF_PAIR = re.compile(r"\\\\|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|(?P<half>\\ud[89a-f][0-9a-f]{2})")
"""Half of a surrogate pair in JSON, among backslashes and whole pairs, which are passed over."""


def check_parameters(parameters: Any) -> dict[str, Any]:
    """Return a copy of the parameters, {} for None.

    Raises:
        TritonModelException: not a dict of str to bool, int or str.
    """
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise TritonModelException(f"Expect N8pybind114dictE, got {type(parameters)}")
    for key, value in parameters.items():
        if not isinstance(key, str):
            raise TritonModelException(f"Expect parameters keys to have type str, found type {type(key)}")
        if not isinstance(value, (bool, int, str)):
            raise TritonModelException(
                f"Expect parameters values to have type bool/int/str, found type {type(value)}"
            )
    return dict(parameters)


def pass_on(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as they arrive: text ends at its first NUL.

    Raises:
        RefusalError: an int does not fit into 64 bits, the name of a parameter has a NUL in it, or text has
            half of a surrogate pair.

    Source: measured on 2.51.0.
    """
    text = json.dumps(dict(parameters), default=str)
    halves = [found.start() for found in _HALF_PAIR.finditer(text) if found["half"]]
    if halves:
        raise RefusalError(
            "failed to parse the request JSON buffer: The surrogate pair in string is invalid. at "
            f"{halves[0]}"
        )
    for name, value in parameters.items():
        if "\0" in name:
            raise RefusalError("Unexpected missing key on parameters")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise RefusalError("Unsupported value type on parameters")
    return {
        name: value.partition("\0")[0] if isinstance(value, str) else value
        for name, value in parameters.items()
    }
