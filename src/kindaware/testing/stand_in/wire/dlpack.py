"""DLPack's C structures and PyCapsules, by ctypes.

A capsule that this module exports keeps its owner alive until the consumer calls the deleter, or until the
capsule goes away unconsumed. Addresses are ints here; nothing is dereferenced that was not checked before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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


_new_capsule = _api("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_get_pointer = _api("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
_get_name = _api("PyCapsule_GetName", ctypes.c_char_p, ctypes.py_object)
_get_destructor = _api("PyCapsule_GetDestructor", ctypes.c_void_p, ctypes.py_object)
_set_name = _api("PyCapsule_SetName", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)
_set_destructor = _api("PyCapsule_SetDestructor", ctypes.c_int, ctypes.py_object, ctypes.c_void_p)
# For a capsule that is being destroyed: its address, since a reference would bring it back to life.
_dying_is_valid = _api("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_dying_pointer = _api("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)

_exports: dict[int, tuple[Any, ...]] = {}
"""What every exported structure keeps alive, by the structure's address."""


@_Deleter  # type: ignore[untyped-decorator]
def _delete_export(address: int, exports: dict[int, tuple[Any, ...]] = _exports) -> None:
    exports.pop(address, None)


@ctypes.PYFUNCTYPE(None, ctypes.c_void_p)  # type: ignore[untyped-decorator]
def _destroy_capsule(
    capsule: int,
    is_valid: Any = _dying_is_valid,
    pointer: Any = _dying_pointer,
    exports: dict[int, tuple[Any, ...]] = _exports,
) -> None:
    if is_valid(capsule, b"dltensor"):
        exports.pop(pointer(capsule, b"dltensor"), None)


for _callback in (_delete_export, _destroy_capsule):
    # A consumer may outlive this module when the interpreter ends.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_callback))


def export_capsule(
    address: int,
    shape: Sequence[int],
    dtype: tuple[int, int],
    device: tuple[int, int],
    owner: object,
    strides: Sequence[int] | None = None,
) -> Any:
    """Make a capsule of memory.

    Args:
        address: of the first element.
        shape: the dimensions.
        dtype: DLPack's code and bits.
        device: DLPack's device type and number.
        owner: kept alive as long as the memory may be used.
        strides: in elements; None is C order.
    """
    dims = (ctypes.c_int64 * max(len(shape), 1))(*shape)
    steps = None if strides is None else (ctypes.c_int64 * max(len(shape), 1))(*strides)
    managed = _Managed()
    managed.tensor.data = address
    managed.tensor.device = _Device(*device)
    managed.tensor.ndim = len(shape)
    managed.tensor.dtype = _DataType(*dtype, 1)
    managed.tensor.shape = ctypes.cast(dims, ctypes.POINTER(ctypes.c_int64))
    if steps is not None:
        managed.tensor.strides = ctypes.cast(steps, ctypes.POINTER(ctypes.c_int64))
    managed.deleter = ctypes.cast(_delete_export, ctypes.c_void_p).value
    _exports[ctypes.addressof(managed)] = (managed, dims, steps, owner)
    destructor = ctypes.cast(_destroy_capsule, ctypes.c_void_p)
    return _new_capsule(ctypes.addressof(managed), FRESH, destructor)


_Capsule = type(_new_capsule(ctypes.addressof(ctypes.c_int()), FRESH, None))


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


def destructor_of(capsule: Any) -> int | None:
    """Return the address of a capsule's destructor, by which producers can be told apart."""
    address: int | None = _get_destructor(capsule)
    return address


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
