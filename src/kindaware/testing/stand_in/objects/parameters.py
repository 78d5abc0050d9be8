"""Parameters of requests and responses."""

from __future__ import annotations

from typing import Any

from kindaware.testing.stand_in.objects.triton_error import TritonModelException


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
