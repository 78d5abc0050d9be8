"""Saving and loading tensors of simulated devices, as torch does it for those of CUDA."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

from kindaware.testing.accelerator.machine.machine import Machine
from kindaware.testing.accelerator.machine.plain import plain_torch
from kindaware.testing.accelerator.tensors.allocation import empty_like
from kindaware.testing.accelerator.tensors.tensor import SimulatedTensor

_ALLOCATION = "simulated_allocation"
"""Attribute of a storage that stands for one on a device: the allocation that holds its memory."""

_LOCATION = "simulated_location"
"""Attribute of a storage on the host that is saved in place of one on a device: that device."""

_utils: Any = torch._utils
_TypedStorage: Any = torch.storage.TypedStorage


def reduce_tensor(tensor: SimulatedTensor, protocol: Any = None) -> Any:
    """Do as `Tensor.__reduce_ex__` does, by way of the host: the storage names the device."""
    if isinstance(tensor, torch.nn.Parameter):
        return _utils._rebuild_parameter, (tensor.detach(), True, OrderedDict())
    host = tensor.detach().cpu()
    storage = host.untyped_storage()
    setattr(storage, _LOCATION, f"cuda:{tensor.ordinal}")
    typed = _TypedStorage(wrap_storage=storage, dtype=tensor.dtype, _internal=True)
    layout = host.storage_offset(), tuple(host.size()), host.stride()
    return _utils._rebuild_tensor_v2, (typed, *layout, False, OrderedDict())


def location_tag(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the function that `torch.save` asks for the device of a storage."""
    return lambda storage: getattr(storage, _LOCATION, None) or original(storage)


def restore_location(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the function with which `torch.load` moves a storage to its device."""

    def restore(storage: Any, location: str) -> Any:
        if not str(location).startswith("cuda"):
            return original(storage, location)
        return to_device(storage, torch.device(location))

    return restore


def to_device(storage: torch.UntypedStorage, device: Any = None, *_: Any, **__: Any) -> torch.UntypedStorage:
    """Do as `UntypedStorage.cuda` does."""
    machine = Machine.active()
    ordinal = machine.ordinal_of(device)
    with plain_torch():
        source = torch.empty(0, dtype=torch.uint8).set_(storage)
    target = empty_like(machine, source, ordinal)
    target.copy_(source)
    moved = target.untyped_storage()
    setattr(moved, _ALLOCATION, target.allocation)
    return moved


def rebuild_tensor(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Wrap the function that makes a tensor of a loaded storage."""

    def rebuild(storage: Any, storage_offset: int, size: Any, stride: Any) -> torch.Tensor:
        allocation = getattr(storage._untyped_storage, _ALLOCATION, None)
        if allocation is None:
            return original(storage, storage_offset, size, stride)
        with plain_torch():
            elements = torch.empty(0, dtype=storage.dtype).set_(
                storage._untyped_storage, storage_offset, size, stride
            )
        return SimulatedTensor.wrap(Machine.active(), elements, allocation)

    return rebuild
