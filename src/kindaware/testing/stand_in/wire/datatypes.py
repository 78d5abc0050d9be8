"""Triton's data types: names on the wire, the server's integers, numpy's types, DLPack's codes."""

from __future__ import annotations

from typing import Any

import numpy as np

_ROWS: tuple[tuple[str, type[np.generic], tuple[int, int]], ...] = (
    ("BOOL", np.bool_, (6, 8)),
    ("UINT8", np.uint8, (1, 8)),
    ("UINT16", np.uint16, (1, 16)),
    ("UINT32", np.uint32, (1, 32)),
    ("UINT64", np.uint64, (1, 64)),
    ("INT8", np.int8, (0, 8)),
    ("INT16", np.int16, (0, 16)),
    ("INT32", np.int32, (0, 32)),
    ("INT64", np.int64, (0, 64)),
    ("FP16", np.float16, (2, 16)),
    ("FP32", np.float32, (2, 32)),
    ("FP64", np.float64, (2, 64)),
)

NUMPY_TYPES: dict[str, type[np.generic]] = {name: numpy for name, numpy, _ in _ROWS}
"""numpy's type of every wire name that has one; BYTES is an array of objects, BF16 has none."""

ORDER = (*NUMPY_TYPES, "BYTES", "BF16")
"""Wire names by the server's integers: the first is 1. Source: tritonserver.h, TRITONSERVER_datatype_enum."""

KDL_BFLOAT = 4
DLPACK_CODES: dict[str, tuple[int, int]] = {**{name: dl for name, _, dl in _ROWS}, "BF16": (KDL_BFLOAT, 16)}
"""DLPack type code and bits of every wire name but BYTES."""

ITEM_BYTES = {name: bits // 8 for name, (_, bits) in DLPACK_CODES.items()}
"""Bytes of one element, of every wire name but BYTES."""

_NAMES = {np.dtype(numpy): name for name, numpy in NUMPY_TYPES.items()}
_BY_DLPACK = {dl: name for name, dl in DLPACK_CODES.items()}


def name_of_numpy(dtype: np.dtype[Any]) -> str | None:
    """Give the wire name of the arrays that `Tensor` takes: native byte order, `object` and `S<n>`."""
    if dtype.kind in "OS":
        return "BYTES"
    return _NAMES.get(dtype)


def name_of_dlpack(code: int, bits: int) -> str | None:
    """Give the wire name of one of DLPack's types, of one lane."""
    return _BY_DLPACK.get((code, bits))
