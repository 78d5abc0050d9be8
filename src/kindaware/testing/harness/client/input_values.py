"""From the value that a test passes for an input to the tensor that a client sends."""

from __future__ import annotations

from typing import Any

import numpy as np

from kindaware._tensors.dtypes import DTYPES
from kindaware.testing.harness.failures import HarnessError
from kindaware.testing.stand_in import WireTensor
from kindaware.testing.stand_in.wire.datatypes import BIT_TYPES, NUMPY_TYPES

_NUMBER_KINDS = "biuf"


def to_wire(name: str, value: Any, datatype: str | None) -> WireTensor:
    """Return the tensor of an input; the conversion may lose digits of floats, and nothing else.

    Args:
        name: of the input.
        value: arrays and tensors keep their type; lists and numbers take that of the configuration.
        datatype: what the configuration says, without TYPE_; None if it has no such input.

    Raises:
        HarnessError: the value can't be sent.
    """
    if isinstance(value, WireTensor):
        return WireTensor(name, value.datatype, value.shape, value.data)
    if isinstance(value, (bool, int, float, str, bytes, list, tuple)):
        value = _to_array(name, value, datatype)
    elif isinstance(value, np.ma.MaskedArray):
        raise _unsendable(name, "an array without a mask", "a masked array", "fill it with filled()")
    elif not hasattr(value, "__array__"):
        raise _unsendable(name, "a numpy array, torch tensor, list or number", repr(value), "convert it")
    has_bits = isinstance(value, np.ndarray) and datatype in BIT_TYPES and value.dtype == BIT_TYPES[datatype]
    try:
        return WireTensor.of(name, value, datatype if has_bits else None)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = f"{type(value).__name__} of {value.dtype}: {error}"
        raise _unsendable(
            name, "a dense array or tensor of one of Triton's data types", kind, "convert it"
        ) from error


def _to_array(name: str, value: Any, datatype: str | None) -> Any:
    if datatype == "STRING":
        return _to_text(name, value)
    try:
        found = np.array(value)
    except (TypeError, ValueError):
        raise _unsendable(name, "lists of equal length", repr(value), "make all rows alike") from None
    if datatype is None:
        return found
    if found.dtype.kind not in _NUMBER_KINDS:
        raise _unsendable(name, f"numbers, since its type is {datatype}", repr(value), "pass numbers")
    array = _cast(found, NUMPY_TYPES[datatype]) if datatype in NUMPY_TYPES else _to_torch(found, datatype)
    if not _is_kept(found, array):
        raise _unsendable(name, f"numbers that {datatype} has", repr(value), "pass others, or an array")
    return array


def _to_text(name: str, value: Any) -> np.ndarray[Any, Any]:
    array = np.array(value, dtype=object)
    if not all(isinstance(one, (str, bytes, bool, int, float)) for one in array.flat):
        raise _unsendable(name, "lists of equal length of str or bytes", repr(value), "pass such")
    return array


def _to_torch(found: np.ndarray[Any, Any], datatype: str) -> Any:
    import torch

    return torch.from_numpy(found.astype(np.float64)).to(DTYPES[datatype].torch)


def _cast(found: np.ndarray[Any, Any], dtype: type[np.generic]) -> np.ndarray[Any, Any]:
    with np.errstate(all="ignore"):
        return found.astype(dtype)


def _is_kept(found: np.ndarray[Any, Any], array: Any) -> bool:
    """Return whether whole numbers are the same, and floats as finite as they were."""
    if isinstance(array, np.ndarray) and array.dtype.kind != "f":
        return np.array_equal(found, array)
    finite = np.isfinite(array.double().numpy() if not isinstance(array, np.ndarray) else array)
    return bool(np.array_equal(np.isfinite(found), finite))


def _unsendable(name: str, expected: str, got: str, remedy: str) -> HarnessError:
    return HarnessError.of(f"input {name!r}", expected=expected, got=got, remedy=remedy)
