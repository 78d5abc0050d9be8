"""The table of Triton's data types and their torch and numpy dtypes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kindaware._errors import ConfigError


@dataclass(frozen=True, slots=True)
class DType:
    """One data type, by its name in Triton, torch and numpy.

    Attributes:
        triton: Triton's wire name, such as `FP32`.
        torch: torch's dtype; None for BYTES, which torch doesn't have.
        numpy: numpy's dtype; None for BF16, which numpy doesn't have.
        dlpack: DLPack's code of the type; None for BYTES.
    """

    triton: str
    torch: torch.dtype | None
    numpy: np.dtype[np.generic] | None
    dlpack: int | None

    def __str__(self) -> str:
        return self.triton

    @property
    def in_config(self) -> str:
        """The name in config.pbtxt, such as `TYPE_FP32`; BYTES are `TYPE_STRING` there."""
        return "TYPE_STRING" if self.torch is None else f"TYPE_{self.triton}"


_DLPACK_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}


def _row(
    triton: str,
    torch_dtype: torch.dtype | None,
    numpy_type: type[np.generic] | None,
    dlpack: int | None = None,
) -> DType:
    numpy = None if numpy_type is None else np.dtype(numpy_type)
    return DType(triton, torch_dtype, numpy, dlpack if numpy is None else _DLPACK_CODES.get(numpy.kind))


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
        _row("BF16", torch.bfloat16, None, 4),
    )
}
"""Every data type by Triton's name, in the order of the server's enum, which starts at 1.

Source: tritonserver.h, TRITONSERVER_datatype_enum.
"""

NO_NUMPY = {dtype.torch for dtype in DTYPES.values() if dtype.numpy is None}
"""torch's types that numpy doesn't have."""

# Without BYTES, whose torch dtype is None.
_BY_TORCH = {dtype.torch: dtype for dtype in DTYPES.values() if dtype.torch is not None}


def find_dtype(name: object, subject: str) -> DType:
    """Return the data type with this name in config.pbtxt (`TYPE_FP32`) or on the wire (`FP32`).

    Args:
        name: the name as declared, of any type.
        subject: who declares it, for the error's text.

    Raises:
        ConfigError: Triton has no data type of that name.
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
    """Return Triton's name of a torch dtype, or torch's where Triton has no such type."""
    found = _BY_TORCH.get(dtype)
    return found.triton if found else str(dtype)
