"""What `Tensor.from_dlpack` accepts and refuses, and what would crash it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kindaware.testing.stand_in.host.host import Host
from kindaware.testing.stand_in.objects.triton_error import TritonModelException
from kindaware.testing.stand_in.pybind.convert import NO_CAST, MismatchError, to_int32, to_list
from kindaware.testing.stand_in.wire import dlpack as _dlpack
from kindaware.testing.stand_in.wire.buffer import Buffer
from kindaware.testing.stand_in.wire.datatypes import ITEM_BYTES, KDL_BFLOAT, name_of_dlpack

_NOT_SUPPORTED = (
    "Provided tensor is not supported. Tensor must be a DLPack capsule         or have `__dlpack__` and "
    "`__dlpack_device__` attributes"
)
_NOT_CONTIGUOUS = (
    "DLPack tensor is not contiguous. Only contiguous DLPack tensors that are stored in C-Order are "
    "supported."
)


@dataclass(frozen=True, slots=True)
class Imported:
    """A tensor that was taken over from a producer.

    Attributes:
        datatype: the wire name.
        shape: the dimensions.
        buffer: the producer's memory.
    """

    datatype: str
    shape: tuple[int, ...]
    buffer: Buffer


def import_dlpack(host: Host, name: str, producer: Any) -> Imported:
    """Take over a producer's tensor, or a capsule."""
    capsule = producer if _dlpack.is_capsule(producer) else _ask(producer)
    if not _dlpack.is_capsule(capsule):
        raise TypeError(f"Object of type '{type(capsule).__name__}' is not an instance of 'capsule'")
    _check_capsule(host, name, capsule)
    owner = _dlpack.Consumed(capsule)
    found = owner.read()
    datatype = _datatype(found.dtype)
    num_elements = int(np.prod(found.shape, dtype=np.int64))
    _check_strides(host, name, found, num_elements)
    device_type, device_id = found.device
    device = (_dlpack.CPU, 0) if device_type == _dlpack.PINNED else (device_type, device_id)
    return Imported(
        datatype, found.shape, Buffer(found.address, num_elements * ITEM_BYTES[datatype], device, owner)
    )


def _ask(producer: Any) -> Any:
    """Get a capsule by `__dlpack__`, on a stream of its own as the server does."""
    if not (hasattr(producer, "__dlpack__") and hasattr(producer, "__dlpack_device__")):
        raise TritonModelException(_NOT_SUPPORTED)
    try:
        device_type, _ = to_list(to_int32)(producer.__dlpack_device__())
    except (MismatchError, ValueError):
        raise RuntimeError(NO_CAST) from None
    if device_type in (_dlpack.CPU, _dlpack.PINNED):
        return producer.__dlpack__(stream=None)
    if device_type != _dlpack.CUDA:
        raise TritonModelException(f"DLDevice type {device_type} is not support by Python backend.")
    import torch

    if not torch.cuda.is_available():
        raise TritonModelException("Failed to get current CUDA device id.")
    proxy: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    capsule = producer.__dlpack__(stream=proxy.cuda_stream)
    proxy.synchronize()
    return capsule


def _check_capsule(host: Host, name: str, capsule: Any) -> None:
    if not _dlpack.is_fresh(capsule):
        raise host.violation(
            f"crash: tensor {name!r} comes from a DLPack capsule that was consumed already",
            "make a new capsule for every consumer, or pass the tensor itself to from_dlpack",
        )
    if _dlpack.is_of_numpy(capsule):
        raise host.violation(
            f"crash: tensor {name!r} comes from a numpy array by DLPack, whose capsule does not survive that",
            "use Tensor(name, array)",
        )


def _datatype(dtype: tuple[int, int, int]) -> str:
    code, bits, lanes = dtype
    if code == KDL_BFLOAT and bits != 16:
        raise TritonModelException(f"Expected BF16 tensor to have 16 bits, but had: {bits}")
    datatype = name_of_dlpack(code, bits) if lanes == 1 else None
    if datatype is None:
        raise TritonModelException("Dtype is invalid.")
    return datatype


def _check_strides(host: Host, name: str, found: _dlpack.ImportedTensor, num_elements: int) -> None:
    """Refuse as the server does; it never looks at dimension 0, and reads on as if all were contiguous."""
    if found.strides is None:
        return
    expected = 1
    for dim in range(len(found.shape) - 1, -1, -1):
        size = found.shape[dim]
        if size != 1 and found.strides[dim] != expected:
            if dim:
                raise TritonModelException(_NOT_CONTIGUOUS)
            if num_elements:
                raise host.violation(
                    f"send wrong data without a word: tensor {name!r} of shape {list(found.shape)} has "
                    f"strides {list(found.strides)}, and the stride of dimension 0 is not checked",
                    "call .contiguous() before from_dlpack",
                )
        expected *= size
