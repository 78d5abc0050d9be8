"""`pb_utils.Tensor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from kindaware.testing.stand_in.host.host import Host
from kindaware.testing.stand_in.objects.import_dlpack import import_dlpack
from kindaware.testing.stand_in.objects.triton_error import TritonModelException
from kindaware.testing.stand_in.pybind.convert import shown, to_instance, to_object, to_str
from kindaware.testing.stand_in.pybind.pybind import (
    MODULE,
    Arg,
    function,
    make,
    method,
    named_as_server,
    pybind11_object,
    static,
)
from kindaware.testing.stand_in.wire import dlpack as _dlpack
from kindaware.testing.stand_in.wire.buffer import Buffer
from kindaware.testing.stand_in.wire.datatypes import DLPACK_CODES, NUMPY_TYPES, name_of_numpy
from kindaware.testing.stand_in.wire.wire import WireTensor, decode_bytes, encode_bytes


@dataclass(slots=True, eq=False)
class TensorState:
    """What a tensor holds.

    Attributes:
        name: as given; getters decode it.
        datatype: the wire name.
        shape: the dimensions.
        array: what `as_numpy` returns; None for BF16 and for GPU memory.
        buffer: what DLPack exports and what is sent.
        is_saved: the buffer is the server's memory, and stays the same from now on.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    array: np.ndarray[Any, Any] | None
    buffer: Buffer
    is_saved: bool = False


def _check_name(name: str) -> str:
    if not name:
        raise TritonModelException("Tensor name cannot be an empty string.")
    return name


@named_as_server
class Tensor(pybind11_object):
    """A named array: an input, or an output to send."""

    __slots__ = ()

    @method(Arg("arg0", "str", to_str), Arg("arg1", "numpy.ndarray", to_instance(np.ndarray)))
    def __init__(self, name: str, array: np.ndarray[Any, Any]) -> None:
        _check_name(name)
        datatype = name_of_numpy(array.dtype)
        if datatype is None:
            raise TritonModelException("NumPy dtype is not supported.")
        if isinstance(array, np.ma.MaskedArray):
            # The server asks such an array for an attribute that it does not have.
            raise AttributeError("'numpy.ndarray' object has no attribute 'c_contiguous'")
        if not array.flags.c_contiguous:
            array = np.ascontiguousarray(array)
        is_text = datatype == "BYTES"
        buffer = Buffer.of_bytes(encode_bytes(array)) if is_text else Buffer.of_array(array)
        self._kindaware = TensorState(name, datatype, array.shape, array, buffer)

    @method(returns="str")
    def name(self) -> str:
        """Return the name."""
        return shown(self._kindaware.name)

    @method(returns="List[int]")
    def shape(self) -> list[int]:
        """Return the dimensions, in a new list."""
        return list(self._kindaware.shape)

    @method(returns="bool")
    def is_cpu(self) -> bool:
        """Return whether the host can read the memory."""
        return not self._kindaware.buffer.is_on_gpu

    @method(returns="numpy.ndarray")
    def as_numpy(self) -> np.ndarray[Any, Any]:
        """Return the array, the same object every time.

        Raises:
            TritonModelException: the data is in GPU memory, or numpy has no such type.
        """
        state: TensorState = self._kindaware
        if state.buffer.is_on_gpu:
            raise TritonModelException("Tensor is stored in GPU and cannot be converted to NumPy.")
        if state.array is None:
            raise TritonModelException(
                f"Tensor dtype is {state.datatype} and cannot be converted to NumPy. Use to_dlpack() and "
                "from_dlpack() instead."
            )
        return state.array

    @method(returns="TRITONSERVER_datatype_enum")
    def triton_dtype(self) -> NoReturn:
        """Fail as the server's does: the type of the result was never registered."""
        raise TypeError(
            "Unable to convert function return value to a Python type! The signature was\n\t"
            f"(self: {MODULE}.Tensor) -> TRITONSERVER_datatype_enum"
        )

    @method(returns="capsule")
    def to_dlpack(self) -> Any:
        """Return a capsule of the memory; never waits."""
        return _export(self)

    @method(Arg("stream", "object", to_object, None), returns="capsule")
    def __dlpack__(self, stream: object = None) -> Any:
        return _export(self)

    @method(returns="Tuple[int, int]")
    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self._kindaware.buffer.device
        return device

    @static
    @function(Arg("self", "str", to_str), Arg("arg0", "object", to_object), returns=f"{MODULE}.Tensor")
    def from_dlpack(host: Host, name: str, producer: Any) -> Tensor:  # noqa: N805 - `static` passes the host
        """Take a tensor of another library without a copy.

        Raises:
            TritonModelException: not supported, by the server's rules.
            TritonContractError: the server would crash, or send wrong data without an error.
        """
        imported = import_dlpack(host, _check_name(name), producer)
        array = _copy(imported.datatype, imported.shape, imported.buffer)
        state = TensorState(name, imported.datatype, imported.shape, array, imported.buffer)
        made: Tensor = make(host.classes.Tensor, state)
        return made


def _export(tensor: Tensor) -> Any:
    """Return a capsule that holds a reference to the tensor."""
    state: TensorState = tensor._kindaware
    if state.datatype == "BYTES":
        raise TritonModelException("DLPack does not have support for string tensors.")
    buffer = state.buffer
    owner = (tensor, buffer)
    return _dlpack.export_capsule(
        buffer.address, state.shape, DLPACK_CODES[state.datatype], buffer.device, owner
    )


def _copy(datatype: str, shape: tuple[int, ...], buffer: Buffer) -> np.ndarray[Any, Any] | None:
    """Copy data of the server or of a producer into an array of the tensor's own."""
    if buffer.is_on_gpu:
        return None
    if datatype == "BYTES":
        return decode_bytes(buffer.read()).reshape(shape)
    if datatype not in NUMPY_TYPES:
        return None
    flat = np.frombuffer(buffer.read(), NUMPY_TYPES[datatype]).copy()
    return flat.reshape(shape)


def new_tensor(host: Host, wire: WireTensor) -> Tensor:
    """Return a tensor of data that the server holds: an input, or an output of a BLS call."""
    if wire.gpu is None or not wire.data or wire.datatype == "BYTES":
        buffer = Buffer.of_bytes(wire.data)
    else:
        buffer = Buffer.of_bytes_on_gpu(wire.data, wire.gpu)
    array = _copy(wire.datatype, wire.shape, buffer)
    state = TensorState(wire.name, wire.datatype, wire.shape, array, buffer, is_saved=True)
    made: Tensor = make(host.classes.Tensor, state)
    return made


def save(tensor: Tensor) -> WireTensor:
    """Return the data to send. The first call moves it to the server's memory, where it no longer changes."""
    state: TensorState = tensor._kindaware
    stream = state.buffer.default_stream()
    with tensor._host.server_memory():
        if not state.is_saved:
            state.buffer = state.buffer.frozen(stream)
            state.is_saved = True
        data = state.buffer.read()
    gpu = state.buffer.device[1] if state.buffer.is_on_gpu else None
    return WireTensor(shown(state.name), state.datatype, state.shape, data, gpu)
