"""The one table that relates Triton's data types to torch's and numpy's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kindaware._errors import ConfigError


@dataclass(frozen=True, slots=True)
class DType:
    """One data type in its three names.

    Attributes:
        triton: Triton's wire name, such as `FP32`.
        torch: torch's dtype, or None for BYTES, which torch doesn't have.
        numpy: numpy's dtype, or None for BF16, which numpy doesn't have.
    """

    triton: str
    torch: torch.dtype | None
    numpy: np.dtype[np.generic] | None

    def __str__(self) -> str:
        return self.triton

    @property
    def in_config(self) -> str:
        """The name in config.pbtxt, such as `TYPE_FP32`; BYTES are `TYPE_STRING` there."""
        return "TYPE_STRING" if self.torch is None else f"TYPE_{self.triton}"


def _row(triton: str, torch_dtype: torch.dtype | None, numpy_type: type[np.generic] | None) -> DType:
    return DType(triton, torch_dtype, None if numpy_type is None else np.dtype(numpy_type))


DTYPES = {
    dtype.triton: dtype
    for dtype in (
        _row("BOOL", torch.bool, np.bool_),
        _row("UINT8", torch.uint8, np.uint8),
        _row("UINT16", torch.uint16, np.uint16),
        _row("UINT32", torch.uint32, np.uint32),
        _row("UINT64", torch.uint64, np.uint64),
        _row("INT8", torch.int8, np.int8),
        _row("INT16", torch.int16, np.int16),
        _row("INT32", torch.int32, np.int32),
        _row("INT64", torch.int64, np.int64),
        _row("FP16", torch.float16, np.float16),
        _row("FP32", torch.float32, np.float32),
        _row("FP64", torch.float64, np.float64),
        _row("BYTES", None, np.object_),
        _row("BF16", torch.bfloat16, None),
    )
}
"""Every data type, by Triton's name, in the order of the server's integers, which count from 1.

Source: tritonserver.h, TRITONSERVER_datatype_enum.
"""

_BY_TORCH = {dtype.torch: dtype for dtype in DTYPES.values() if dtype.torch is not None}


def find_dtype(name: object, subject: str) -> DType:
    """Look a data type up by its name in config.pbtxt (`TYPE_FP32`) or on the wire (`FP32`).

    Args:
        name: the name; anything but a known name is an error.
        subject: who declares it, for the error's text.

    Raises:
        ConfigError: the name is not Triton's.
    """
    short = name.removeprefix("TYPE_") if isinstance(name, str) else ""
    dtype = DTYPES.get("BYTES" if short == "STRING" else short)
    if dtype is None:
        raise ConfigError.of(
            subject,
            expected="a data type out of " + ", ".join(DTYPES),
            got=repr(name),
            remedy="correct the data type",
        )
    return dtype


def triton_name(dtype: torch.dtype) -> str:
    """Name a torch dtype as Triton does, or as torch does where Triton has no such type."""
    known = _BY_TORCH.get(dtype)
    return known.triton if known else str(dtype)
