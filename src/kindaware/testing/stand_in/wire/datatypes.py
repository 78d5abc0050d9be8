"""Triton's data types as they are on the wire and in DLPack, taken from the library's own table."""

from __future__ import annotations

from typing import Any

import numpy as np

from kindaware._tensors.dtypes import DTYPES

NUMPY_TYPES: dict[str, type[np.generic]] = {
    name: dtype.numpy.type
    for name, dtype in DTYPES.items()
    if dtype.torch is not None and dtype.numpy is not None
}
"""numpy's type of every wire name that has one; BYTES is an array of objects, BF16 has none."""

BIT_TYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(f"u{dtype.torch.itemsize}")
    for name, dtype in DTYPES.items()
    if dtype.torch is not None and dtype.numpy is None
}
"""numpy's integers for the bits of every wire name whose elements numpy has no type for, such as BF16."""

# ml_dtypes names its types as torch does.
_BY_ML_DTYPES = {str(DTYPES[name].torch).removeprefix("torch."): name for name in BIT_TYPES}

ITEM_BYTES = {name: dtype.torch.itemsize for name, dtype in DTYPES.items() if dtype.torch is not None}
"""Bytes of one element, of every wire name but BYTES."""

KDL_BFLOAT = 4
DLPACK_CODES: dict[str, tuple[int, int]] = {
    name: (DTYPES[name].dlpack or 0, num_bytes * 8) for name, num_bytes in ITEM_BYTES.items()
}
"""DLPack type code and bits of every wire name but BYTES."""

_NAMES = {np.dtype(numpy): name for name, numpy in NUMPY_TYPES.items()}
_BY_DLPACK = {dl: name for name, dl in DLPACK_CODES.items()}


def name_of_config(data_type: str) -> str:
    """Return the wire name of a type of config.pbtxt: `BYTES` for `TYPE_STRING`."""
    return data_type.removeprefix("TYPE_").replace("STRING", "BYTES")


def name_of_numpy(dtype: np.dtype[Any]) -> str | None:
    """Return the wire name of the arrays that `Tensor` takes: native byte order, `object` and `S<n>`."""
    if dtype.kind in "OS":
        return "BYTES"
    return _NAMES.get(dtype)


def name_of_ml_dtypes(dtype: np.dtype[Any]) -> str | None:
    """Return the wire name of a type that the package ml_dtypes adds to numpy."""
    return _BY_ML_DTYPES.get(dtype.name)


def name_of_dlpack(code: int, bits: int) -> str | None:
    """Return the wire name of one of DLPack's types, of one lane."""
    return _BY_DLPACK.get((code, bits))
