"""The table of Triton's data types and their torch and numpy dtypes.

Without torch until a torch dtype is asked for: clients and the command line start without it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kindaware._errors import ConfigError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class DType:
    """One data type, by its name in Triton, torch and numpy.

    Attributes:
        triton: Triton's wire name, such as `FP32`.
        torch_name: name of torch's dtype; None for BYTES, which torch doesn't have.
        numpy: numpy's dtype; None for BF16, which numpy doesn't have.
        dlpack: DLPack's code of the type; None for BYTES.
    """

    triton: str
    torch_name: str | None
    numpy: np.dtype[np.generic] | None
    dlpack: int | None

    def __str__(self) -> str:
        return self.triton

    @property
    def torch(self) -> torch.dtype | None:
        """Torch's dtype; None for BYTES, which torch doesn't have."""
        import torch

        return None if self.torch_name is None else getattr(torch, self.torch_name)

    @property
    def in_config(self) -> str:
        """The name in config.pbtxt, such as `TYPE_FP32`; BYTES are `TYPE_STRING` there."""
        return "TYPE_STRING" if self.torch_name is None else f"TYPE_{self.triton}"


_DLPACK_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}


def _row(
    triton: str,
    torch_name: str | None,
    numpy_type: type[np.generic] | None,
    dlpack: int | None = None,
) -> DType:
    numpy = None if numpy_type is None else np.dtype(numpy_type)
    return DType(triton, torch_name, numpy, dlpack if numpy is None else _DLPACK_CODES.get(numpy.kind))


DTYPES = {
    dtype.triton: dtype
    for dtype in (
        _row("BOOL", "bool", np.bool_),
        _row("UINT8", "uint8", np.uint8),
        _row("UINT16", "uint16", np.uint16),
        _row("UINT32", "uint32", np.uint32),
        _row("UINT64", "uint64", np.uint64),
        _row("INT8", "int8", np.int8),
        _row("INT16", "int16", np.int16),
        _row("INT32", "int32", np.int32),
        _row("INT64", "int64", np.int64),
        _row("FP16", "float16", np.float16),
        _row("FP32", "float32", np.float32),
        _row("FP64", "float64", np.float64),
        _row("BYTES", None, np.object_),
        _row("BF16", "bfloat16", None, 4),
    )
}
"""Every data type by Triton's name, in the order of the server's enum, which starts at 1.

Source: tritonserver.h, TRITONSERVER_datatype_enum.
"""


@functools.cache
def no_numpy() -> frozenset[torch.dtype]:
    """Return torch's types that numpy doesn't have."""
    return frozenset(one.torch for one in DTYPES.values() if one.torch is not None and one.numpy is None)


@functools.cache
def by_torch() -> dict[torch.dtype, DType]:
    """Return the data types by torch's dtype, without BYTES, which torch doesn't have."""
    return {one.torch: one for one in DTYPES.values() if one.torch is not None}


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
    found = by_torch().get(dtype)
    return found.triton if found else str(dtype)
