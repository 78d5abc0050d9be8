"""Sizes of one row from the command line, for inputs whose dims have -1."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kindaware._errors import ConfigError, OptionError
from kindaware.cli._sizes import fill_dims


def parse_shapes(options: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Read `INPUT=3x224x224`, or `INPUT:3,224,224` as perf_analyzer has it.

    Raises:
        OptionError: an option is not of that form.
    """
    found = {}
    for option in options:
        parts = re.fullmatch(r"(.+)[:=](\d+(?:[x,]\d+)*)", option)
        if parts is None:
            raise OptionError.of(
                f"--shape {option}",
                expected="an input and the sizes of one row of it",
                got=repr(option),
                remedy="write it like --shape INPUT:3,224,224",
            )
        found[parts[1]] = tuple(map(int, re.split("[x,]", parts[2])))
    return found


def choose_sizes(
    name: str, datatype: str, dims: Sequence[int], shape: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Return the sizes of one row to measure: the dims, or a shape that fits them where they have -1.

    Raises:
        ConfigError: there is none, or it doesn't fit.
    """
    if shape is None and -1 not in dims:
        return tuple(dims)
    if shape is None or not fits(shape, dims):
        raise ConfigError.of(
            f"input {name!r}",
            expected=f"sizes of one row for dims {list(dims)}",
            got="none" if shape is None else str(list(shape)),
            remedy=f"say them, like --shape {name}:{','.join(map(str, fill_dims(dims, datatype)))}",
        )
    return shape


def fits(shape: Sequence[int], dims: Sequence[int]) -> bool:
    """Return whether a shape is one that dims allow."""
    return len(shape) == len(dims) and all(want in (-1, n) for n, want in zip(shape, dims, strict=True))
