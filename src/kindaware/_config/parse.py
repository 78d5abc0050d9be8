"""Typed and checked reading of values from the parsed model configuration.

Each function raises a `ConfigError` for a value that Triton would not pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kindaware._errors import ConfigError

MAX_ELEMENTS = 2**40
"""Upper bound on the elements of one row; a larger shape is taken for a mistake in the configuration."""

REMEDY = "correct the model configuration"


def read_sizes(dims: object, subject: str) -> tuple[int, ...]:
    """Return the shape in `dims`, -1 for a dimension of any size."""
    is_list = isinstance(dims, Sequence) and not isinstance(dims, (str, bytes))
    sizes = tuple(dims) if isinstance(dims, Sequence) else ()
    # type(...) is int, since bool is a subclass of int and no size.
    if (
        not is_list
        or not all(type(size) is int and (size == -1 or size > 0) for size in sizes)
        or math.prod(abs(size) for size in sizes) > MAX_ELEMENTS
    ):
        raise ConfigError.of(
            subject,
            expected="a list of sizes, each -1 or above 0, of at most 2**40 elements in all",
            got=shorten(dims),
            remedy="correct dims",
        )
    return sizes


def read_list(config: Mapping[str, Any], key: str, subject: str) -> list[Any]:
    """Return the list under a key; empty if the key is missing."""
    value = config.get(key) or []
    if not isinstance(value, list):
        raise ConfigError.of(f"{subject} {key}", expected="a list", got=shorten(value), remedy=REMEDY)
    return value


def read_text(config: Mapping[str, Any], key: str, subject: str) -> str:
    """Return the text under a key; empty if the key is missing."""
    value = config.get(key, "")
    if not isinstance(value, str):
        raise ConfigError.of(f"{subject} {key}", expected="text", got=shorten(value), remedy=REMEDY)
    return value


def read_integer(value: object, subject: str, *, lowest: int, remedy: str = REMEDY) -> int:
    """Return the value, checked to be a whole number, `lowest` or more, that fits into 32 bits."""
    if type(value) is not int or not lowest <= value < 2**31:
        raise ConfigError.of(
            subject, expected=f"a whole number, {lowest} or more", got=shorten(value), remedy=remedy
        )
    return value


def shorten(value: object) -> str:
    """Return the value's repr, cut to 80 characters for a message."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
