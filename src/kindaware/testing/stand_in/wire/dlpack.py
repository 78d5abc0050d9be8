"""DLPack's C structures and PyCapsules, by ctypes.

A capsule that this module exports keeps its owner alive until the consumer calls the deleter, or until the
capsule goes away unconsumed. Addresses are ints here; nothing is dereferenced that was not checked before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CPU, CUDA, PINNED = 1, 2, 3
FRESH = b"dltensor"
CONSUMED = b"used_dlpack"  # an odd name: the standard's is used_dltensor


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("id", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


def _api(name: str, result: Any, *args: Any) -> Any:
    """Return a function of Python's C API; it holds the GIL and passes exceptions on."""
    return ctypes.PYFUNCTYPE(result, *args)((name, ctypes.pythonapi))


_get_pointer = _api("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
_get_name = _api("PyCapsule_GetName", ctypes.c_char_p, ctypes.py_object)
_get_destructor = _api("PyCapsule_GetDestructor", ctypes.c_void_p, ctypes.py_object)
_set_name = _api("PyCapsule_SetName", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)
_set_destructor = _api("PyCapsule_SetDestructor", ctypes.c_int, ctypes.py_object, ctypes.c_void_p)
_set_context = _api("PyCapsule_SetContext", ctypes.c_int, ctypes.py_object, ctypes.c_void_p)
_get_context = _api("PyCapsule_GetContext", ctypes.c_void_p, ctypes.py_object)

_OWN_MARK = ctypes.c_int()
"""Its address, in a capsule's context, marks the capsules that this module made."""


_COMPLEX_BYTES = 16  # numpy has no integers of that size


class _Memory:
    """What numpy takes memory from, and keeps alive.

    Attributes:
        owner: keeps the memory alive.
    """

    __slots__ = ("__array_interface__", "owner")

    def __init__(
        self,
        address: int,
        shape: Sequence[int],
        strides: Sequence[int] | None,
        item_bytes: int,
        owner: object,
    ) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "version": 3,
            "shape": tuple(shape),
            "typestr": f"<c{item_bytes}" if item_bytes == _COMPLEX_BYTES else f"<u{item_bytes}",
            "data": (address or ctypes.addressof(_OWN_MARK), False),
            "strides": None if strides is None else tuple(stride * item_bytes for stride in strides),
        }


def export_capsule(
    address: int,
    shape: Sequence[int],
    dtype: tuple[int, int],
    device: tuple[int, int],
    owner: object,
    strides: Sequence[int] | None = None,
) -> Any:
    """Return a capsule of memory.

    numpy makes it, since its deleter is C: a deleter in Python fails while an exception is passing.

    Args:
        address: of the first element.
        shape: the dimensions.
        dtype: DLPack's code and bits.
        device: DLPack's device type and number.
        owner: kept alive as long as the memory may be used.
        strides: in elements; None is C order.
    """
    memory: Any = _Memory(address, shape, strides, dtype[1] // 8, owner)
    capsule = np.asarray(memory).__dlpack__()
    tensor = _Managed.from_address(_get_pointer(capsule, FRESH)).tensor
    tensor.dtype = _DataType(*dtype, 1)
    tensor.device = _Device(*device)
    if strides is None:
        tensor.strides = None
    _set_context(capsule, ctypes.addressof(_OWN_MARK))
    return capsule


_Capsule = type(np.empty(0).__dlpack__())


def is_capsule(value: object) -> bool:
    """Return whether a value is a PyCapsule, of any name."""
    return isinstance(value, _Capsule)


def is_fresh(capsule: Any) -> bool:
    """Return whether nobody has consumed a DLPack capsule."""
    return bool(_get_name(capsule) == FRESH)


def device_of(capsule: Any) -> tuple[int, int]:
    """Return the device type and number of a fresh capsule."""
    device = _Managed.from_address(_get_pointer(capsule, FRESH)).tensor.device
    return device.type, device.id


def relabel(capsule: Any, device: tuple[int, int]) -> None:
    """Change the device that a fresh capsule names."""
    _Managed.from_address(_get_pointer(capsule, FRESH)).tensor.device = _Device(*device)


def is_of_numpy(capsule: Any) -> bool:
    """Return whether numpy made a capsule by itself; each producer has a destructor of its own."""
    is_own = _get_context(capsule) == ctypes.addressof(_OWN_MARK)
    return not is_own and _get_destructor(capsule) == _get_destructor(np.empty(0).__dlpack__())


@dataclass(frozen=True, slots=True)
class ImportedTensor:
    """What a DLPack capsule described.

    Attributes:
        address: of the first element, offset included.
        shape: the dimensions.
        strides: in elements; None is C order.
        dtype: code, bits, lanes.
        device: type and number.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: tuple[int, int, int]
    device: tuple[int, int]


class Consumed:
    """Owns what a capsule held: calls the producer's deleter when it goes away."""

    def __init__(self, capsule: Any) -> None:
        self._address = _get_pointer(capsule, FRESH)
        _set_destructor(capsule, None)
        _set_name(capsule, CONSUMED)

    def read(self) -> ImportedTensor:
        """Read the description."""
        tensor = _Managed.from_address(self._address).tensor
        dims = range(tensor.ndim)
        return ImportedTensor(
            address=(tensor.data or 0) + tensor.byte_offset,
            shape=tuple(tensor.shape[dim] for dim in dims),
            strides=tuple(tensor.strides[dim] for dim in dims) if tensor.strides else None,
            dtype=(tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes),
            device=(tensor.device.type, tensor.device.id),
        )

    def __del__(self, managed: Any = _Managed, function: Any = _Deleter) -> None:
        # Defaults, since the module's names are gone when the interpreter ends.
        deleter = managed.from_address(self._address).deleter
        if deleter:
            function(deleter)(self._address)
