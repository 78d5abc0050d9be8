"""Values out of the parsed model configuration, checked: whoever reads one knows its type.

Each of the functions raises a `ConfigError` for what Triton would not pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kindaware._errors import ConfigError

MAX_ELEMENTS = 2**40
"""More elements than this in one row of a tensor are taken for a mistake in the configuration."""

REMEDY = "correct the model configuration"


def read_sizes(dims: object, subject: str) -> tuple[int, ...]:
    """Read the sizes of a tensor, -1 for any size."""
    is_list = isinstance(dims, Sequence) and not isinstance(dims, (str, bytes))
    sizes = tuple(dims) if isinstance(dims, Sequence) else ()
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
    """Read a list; a key that is missing has an empty one."""
    value = config.get(key) or []
    if not isinstance(value, list):
        raise ConfigError.of(f"{subject} {key}", expected="a list", got=shorten(value), remedy=REMEDY)
    return value


def read_text(config: Mapping[str, Any], key: str, subject: str) -> str:
    """Read a text; a key that is missing has an empty one."""
    value = config.get(key, "")
    if not isinstance(value, str):
        raise ConfigError.of(f"{subject} {key}", expected="text", got=shorten(value), remedy=REMEDY)
    return value


def read_integer(value: object, subject: str, *, lowest: int, remedy: str = REMEDY) -> int:
    """Check a whole number that fits into 32 bits."""
    if type(value) is not int or not lowest <= value < 2**31:
        raise ConfigError.of(
            subject, expected=f"a whole number from {lowest} on", got=shorten(value), remedy=remedy
        )
    return value


def shorten(value: object) -> str:
    """Give a value as a message may quote it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
