"""DLPack to and from simulated devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from kindaware._tensors.dtypes import DTYPES, triton_name
from kindaware.testing.accelerator.machine.machine import Machine
from kindaware.testing.accelerator.machine.plain import plain_torch
from kindaware.testing.accelerator.machine.processes import stream_of_handle
from kindaware.testing.accelerator.tensors.tensor import SimulatedTensor
from kindaware.testing.stand_in.wire import dlpack

_NO_ORDER = -1


def export(tensor: SimulatedTensor, handle: int | None = None) -> Any:
    """Return a capsule; the stream with the handle, if any, waits for the tensor's current stream."""
    machine, ordinal = tensor.machine, tensor.ordinal
    machine.call("export by DLPack", ordinal)
    if handle is not None and handle != _NO_ORDER:
        current = machine.current_stream(ordinal)
        consumer = stream_of_handle(machine.current, int(handle), ordinal)
        if consumer is not current:
            machine.timeline.wait_for(consumer, machine.timeline.record(current))
    elements = tensor.elements
    return dlpack.export_capsule(
        elements.data_ptr(),
        tuple(elements.shape),
        _code_of(elements.dtype),
        (dlpack.CUDA, ordinal),
        tensor.allocation,  # the capsule's owner: the memory is not reused while the capsule is in use
        elements.stride(),
    )


def _code_of(dtype: torch.dtype) -> tuple[int, int]:
    """Return DLPack's type code and number of bits of a dtype."""
    bits = dtype.itemsize * 8
    return (5 if dtype.is_complex else DTYPES[triton_name(dtype)].dlpack or 0), bits


def to_dlpack(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `torch.utils.dlpack.to_dlpack`, which makes no stream wait."""

    def give(tensor: torch.Tensor) -> Any:
        return export(tensor) if isinstance(tensor, SimulatedTensor) else original(tensor)

    return give


def from_dlpack(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Wrap `torch.from_dlpack`: memory on CUDA becomes a simulated tensor, without a copy."""

    def take(producer: Any, **kwargs: Any) -> torch.Tensor:
        machine = Machine.active()
        if isinstance(producer, SimulatedTensor):
            return producer.detach()
        capsule = producer
        if not dlpack.is_capsule(producer):
            kind, ordinal = producer.__dlpack_device__()
            if kind != dlpack.CUDA:
                return original(producer, **kwargs)
            stream = machine.current_stream(ordinal)
            capsule = producer.__dlpack__(stream=stream.handle or 1)  # DLPack's number of the default stream
        kind, ordinal = dlpack.device_of(capsule)
        if kind != dlpack.CUDA:
            return original(capsule, **kwargs)
        machine.call("import by DLPack", ordinal)
        dlpack.relabel(capsule, (dlpack.CPU, 0))  # torch itself sees no CUDA device
        with plain_torch():
            elements = original(capsule)
            store = torch.empty(0, dtype=torch.uint8).set_(elements.untyped_storage())
        memory = machine.devices[ordinal].memory
        allocation = memory.find(elements.data_ptr()) or memory.borrow(store)
        return SimulatedTensor.wrap(machine, elements, allocation)

    return take
