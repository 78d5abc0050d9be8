"""What travels between clients, server and models: plain data, no Triton objects."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kindaware._tensors.dtypes import DTYPES, no_numpy, triton_name
from kindaware.testing.stand_in.wire.datatypes import BIT_TYPES, NUMPY_TYPES, name_of_ml_dtypes, name_of_numpy


@dataclass(frozen=True, slots=True)
class WireTensor:
    """One tensor as the server holds it.

    Attributes:
        name: name of the input or output.
        datatype: Triton's wire name, such as `FP32`, `BF16` or `BYTES`.
        shape: the dimensions, batch dimension included.
        data: the elements in C order, little endian; BYTES elements each after their length, 4 bytes.
        gpu: number of the GPU in whose memory its producer left it; None is the host's.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes = field(repr=False)
    gpu: int | None = None

    @classmethod
    def of(cls, name: str, array: Any, datatype: str | None = None) -> WireTensor:
        """Copy a numpy array, or a torch tensor on any device.

        Args:
            name: name of the tensor.
            array: what to send; an object array holds bytes or str, anything else becomes `str(element)`.
            datatype: the wire name; by default that of the array. An array of `BIT_TYPES` may be sent as the
                type whose bits it has, such as `uint16` as BF16.

        Raises:
            TypeError: Triton has no such data type, or `datatype` is not that of the array.
        """
        found, contiguous = _to_numpy(array)
        wanted = datatype or found
        is_bits = wanted in BIT_TYPES and contiguous.dtype == BIT_TYPES[wanted]
        if wanted != found and not is_bits:
            raise TypeError(f"tensor {name!r}: expected elements of {wanted}, got {found}; convert the array")
        data = encode_bytes(contiguous) if wanted == "BYTES" else contiguous.tobytes()
        return cls(name, wanted, tuple(contiguous.shape), data)

    def value(self) -> Any:
        """Return a new array of the elements: of `bytes` for BYTES, torch's where numpy lacks the type."""
        dtype = DTYPES[self.datatype]
        if dtype.numpy is None and dtype.torch is not None:
            import torch

            bits = np.frombuffer(self.data, f"i{dtype.torch.itemsize}").reshape(self.shape).copy()
            return torch.from_numpy(bits).view(dtype.torch)
        if self.datatype == "BYTES":
            return decode_bytes(self.data).reshape(self.shape)
        return np.frombuffer(self.data, NUMPY_TYPES[self.datatype]).reshape(self.shape).copy()


def _to_numpy(array: Any) -> tuple[str, np.ndarray[Any, Any]]:
    """Return the wire name and a C-contiguous numpy array; types that numpy lacks as their bits."""
    if type(array).__module__.split(".")[0] == "torch":
        host = array.detach().cpu().contiguous()
        if host.dtype in no_numpy():
            import torch

            bits = torch.int16 if host.itemsize == 2 else torch.int8
            return triton_name(host.dtype), host.view(bits).numpy()
        array = host.numpy()
    contiguous = np.asarray(array, order="C")
    foreign = name_of_ml_dtypes(contiguous.dtype)
    if foreign is not None:
        return foreign, contiguous.view(BIT_TYPES[foreign])
    if contiguous.dtype.kind == "U":
        contiguous = contiguous.astype(object)
    found = name_of_numpy(contiguous.dtype)
    if found is None:
        raise TypeError(f"array of {contiguous.dtype}: expected one of Triton's data types; convert it")
    return found, contiguous


def encode_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """Serialize the elements of an array of `object` or `S`, each preceded by its length."""
    parts = []
    for element in array.ravel():
        text = element if isinstance(element, bytes) else str(element).encode()
        parts.append(struct.pack("<I", len(text)) + text)
    return b"".join(parts)


def decode_bytes(data: bytes) -> np.ndarray[Any, Any]:
    """Undo `encode_bytes`: a one-dimensional array of `bytes` objects.

    Raises:
        struct.error: the data is cut short.
    """
    elements: list[bytes] = []
    start = 0
    while start < len(data):
        (length,) = struct.unpack_from("<I", data, start)
        elements += struct.unpack_from(f"<{length}s", data, start + 4)
        start += 4 + length
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as a client reads it.

    Attributes:
        message: the text.
        code: name of a code of `TritonError`, such as `INTERNAL`.
    """

    message: str
    code: str = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Answer:
    """One response as the server passes it on: to a client, or to a model that made a BLS call.

    Attributes:
        outputs: in the model's order, only those that were asked for; none if there is a failure.
        failure: the response's error.
        parameters: the response's parameters (from 25.02).
        is_final: this is the last one of its request. A flag without a response is an Answer without
            outputs and failure, and `is_flag_only`.
        is_flag_only: the model sent flags without a response; a client of a non-decoupled model, or one that
            did not ask for empty finals, does not see it.
    """

    outputs: tuple[WireTensor, ...] = ()
    failure: Failure | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    is_final: bool = False
    is_flag_only: bool = False


@dataclass(frozen=True, slots=True)
class BlsCall:
    """What a model asks of another model by `InferenceRequest.exec` and `async_exec`.

    Attributes:
        model_name: whom to call.
        model_version: -1 is the latest that the version policy serves.
        inputs: as they are at the time of the call.
        requested_output_names: empty means all.
        request_id: empty if unset.
        correlation_id: int, or str.
        flags: of sequences.
        timeout: microseconds, 0 is none.
        parameters: of the request.
        is_decoupled: the caller passed `decoupled=True`, and takes any number of responses.
        trace: the context that `request.trace()` passed on, or None.
        preferred_memory: where the outputs are wanted: `CPU` or `GPU`, and its number; None leaves them where
            the called model put them.
    """

    model_name: str
    model_version: int = -1
    inputs: tuple[WireTensor, ...] = ()
    requested_output_names: tuple[str, ...] = ()
    request_id: str = ""
    correlation_id: int | str = 0
    flags: int = 0
    timeout: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    is_decoupled: bool = False
    trace: str | None = None
    preferred_memory: tuple[str, int] | None = None
