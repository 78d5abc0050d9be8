"""Which Python values the server's C++ functions accept for which type."""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

NO_CAST = (
    "Unable to cast Python instance to C++ type (#define PYBIND11_DETAILED_ERROR_MESSAGES or compile in "
    "debug mode for details)"
)
"""Text of the RuntimeError for a Python value that C++ can't take."""


class MismatchError(Exception):
    """The value is not of the type; becomes the TypeError about incompatible arguments."""


def to_str(value: Any) -> str:
    """Accept str, bytes and bytearray; bytes that aren't UTF-8 fail only in the getter, see `shown`."""
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "surrogateescape")
    if not isinstance(value, str):
        raise MismatchError
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise MismatchError from None
    return str(value)


def shown(text: str) -> str:
    """Return what a getter returns for text that `to_str` accepted.

    Raises:
        UnicodeDecodeError: it was given as bytes that are not UTF-8.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8")


def _read_int(value: Any) -> int:
    try:
        return operator.index(value)
    except Exception:
        if not hasattr(type(value), "__int__"):
            raise MismatchError from None
    try:
        return int(value)
    except Exception:
        raise MismatchError from None


def to_int(low: int, high: int) -> Callable[[Any], int]:
    """Accept what Python can convert to int, but neither str nor float; `high` is excluded."""

    def convert(value: Any) -> int:
        if isinstance(value, float) or value is None:
            raise MismatchError
        number = _read_int(value)
        if not low <= number < high:
            raise MismatchError
        return number

    return convert


to_int32 = to_int(-(2**31), 2**31)
to_int64 = to_int(-(2**63), 2**63)
to_uint32 = to_int(0, 2**32)
to_uint64 = to_int(0, 2**64)


def to_float(value: Any) -> float:
    """Accept every number; no str."""
    if not any(hasattr(type(value), name) for name in ("__float__", "__index__", "__int__")):
        raise MismatchError
    try:
        return float(value)
    except Exception:
        raise MismatchError from None


def to_bool(value: Any) -> bool:
    """Accept what defines `__bool__`, which None and containers don't."""
    if value is None or not hasattr(type(value), "__bool__"):
        raise MismatchError
    try:
        return bool(value)
    except Exception:
        raise MismatchError from None


def to_object(value: Any) -> Any:
    """Accept everything."""
    return value


def not_none(value: Any) -> Any:
    """Accept everything but None."""
    if value is None:
        raise MismatchError
    return value


def to_instance(cls: type) -> Callable[[Any], Any]:
    """Accept objects of the class."""

    def convert(value: Any) -> Any:
        if not isinstance(value, cls):
            raise MismatchError
        return value

    return convert


def to_optional(cls: type) -> Callable[[Any], Any]:
    """Accept objects of the class, and None."""

    def convert(value: Any) -> Any:
        if value is not None and not isinstance(value, cls):
            raise MismatchError
        return value

    return convert


def to_list(element: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    """Convert any sequence but text to a list: no set, dict or iterator; the sequence's own errors pass."""

    def convert(value: Any) -> list[Any]:
        is_sequence = hasattr(type(value), "__getitem__") and not isinstance(value, (dict, MappingProxyType))
        if not is_sequence or isinstance(value, (str, bytes)):
            raise MismatchError
        return [element(value[index]) for index in range(len(value))]

    return convert
