"""Sizes for dimensions that a configuration leaves open."""

from __future__ import annotations

from collections.abc import Iterable

_OPEN = 8
_OPEN_OF_PICTURES = 224
_CHANNELS = (1, 3, 4)


def fill_dims(dims: Iterable[int], datatype: str) -> tuple[int, ...]:
    """Return the sizes of one row, with a number in place of each -1.

    Pictures, which have three dimensions with their channels first or last, become 224 on a side, other
    numbers 8 long. Of texts there is one.

    Args:
        dims: of the configuration.
        datatype: Triton's wire name.
    """
    sizes = tuple(dims)
    is_picture = len(sizes) == 3 and (sizes[0] in _CHANNELS or sizes[2] in _CHANNELS)
    number = 1 if datatype == "BYTES" else _OPEN_OF_PICTURES if is_picture else _OPEN
    return tuple(number if size < 0 else size for size in sizes)
