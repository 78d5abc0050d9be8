"""How much of /dev/shm, through which a model's processes get tensors, its batches take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

_TEXT_BYTES = 64
"""Of an element of a tensor of texts; an assumption."""

_ITEM_BYTES = {"bool": 1, "bfloat16": 2}


def count_batch_bytes(
    tensors: Iterable[tuple[str, Sequence[int]]], rows: int, *, text_bytes: int = _TEXT_BYTES
) -> int:
    """Return the bytes of the inputs and outputs of a batch.

    Args:
        tensors: data type, by torch's name or `BYTES`, and shape of one row.
        rows: of the batch.
        text_bytes: of a text.
    """
    return rows * sum(math.prod(shape) * _item_bytes(dtype, text_bytes) for dtype, shape in tensors)


def _item_bytes(dtype: str, text_bytes: int) -> int:
    import numpy

    return text_bytes if dtype == "BYTES" else _ITEM_BYTES.get(dtype) or numpy.dtype(dtype).itemsize
