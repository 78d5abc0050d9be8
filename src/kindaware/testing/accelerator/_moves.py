"""Methods of tensors that move them between devices, or ask about page-locked memory.

torch's own look for a driver before they reach any mode.
"""

from __future__ import annotations

from typing import Any

import torch

from kindaware.testing.accelerator._accelerator import SimulatedAccelerator
from kindaware.testing.accelerator._copies import copy_, to_copy
from kindaware.testing.accelerator._tensor import SimulatedTensor

_to: Any = torch.Tensor.to
_swap: Any = torch.utils.swap_tensors


def move(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Do as `Tensor.to` does, in all its forms."""
    if args and isinstance(args[0], torch.Tensor):
        return move(tensor, args[0].device, args[0].dtype, *args[1:], **kwargs)
    args, kwargs = _with_device_object(args, dict(kwargs))
    is_forced = kwargs.pop("copy", False)
    num_before_copy = 2 if args and isinstance(args[0], torch.dtype) else 3
    if len(args) > num_before_copy:
        is_forced, args = args[num_before_copy], args[:num_before_copy]
    device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
    if not isinstance(tensor, SimulatedTensor) and (device is None or device.type != "cuda"):
        moved: torch.Tensor = _to(tensor, *args, **kwargs, copy=is_forced)
        return moved
    device = tensor.device if device is None else device
    if device.type == "cuda":
        device = torch.device("cuda", SimulatedAccelerator.active().ordinal_of(device))
    is_laid_out = memory_format in (None, torch.preserve_format) or tensor.is_contiguous(
        memory_format=memory_format
    )
    if tensor.device == device and dtype in (None, tensor.dtype) and is_laid_out and not is_forced:
        return tensor
    return to_copy(tensor, dtype=dtype, device=device, non_blocking=non_blocking, memory_format=memory_format)


def _with_device_object(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A bare number is a CUDA device, for which torch would look for a driver."""
    if args and isinstance(args[0], int):
        return (torch.device("cuda", args[0]), *args[1:]), kwargs
    if isinstance(kwargs.get("device"), int):
        kwargs["device"] = torch.device("cuda", kwargs["device"])
    return args, kwargs


def move_to_cuda(
    tensor: torch.Tensor,
    device: Any = None,
    non_blocking: bool = False,
    memory_format: torch.memory_format = torch.preserve_format,
) -> torch.Tensor:
    """Do as `Tensor.cuda` does."""
    ordinal = SimulatedAccelerator.active().ordinal_of(device)
    there = torch.device("cuda", ordinal)
    return move(tensor, there, non_blocking=non_blocking, memory_format=memory_format)


def copy_into(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """Do as `Tensor.copy_` does."""
    if isinstance(target, SimulatedTensor) or isinstance(source, SimulatedTensor):
        return copy_(target, source, non_blocking)
    return torch.Tensor.copy_(target, source, non_blocking)


def pin_memory(tensor: torch.Tensor, device: Any = None) -> torch.Tensor:
    """Do as `Tensor.pin_memory` does."""
    if isinstance(tensor, SimulatedTensor):
        raise RuntimeError(f"cannot pin '{tensor.type()}' only dense CPU tensors can be pinned")
    accelerator = SimulatedAccelerator.active()
    if tensor in accelerator.pinned:
        return tensor
    accelerator.call("allocate page-locked memory")
    return accelerator.pinned.add(tensor.contiguous().clone())


def is_pinned(tensor: torch.Tensor, device: Any = None) -> bool:
    """Do as `Tensor.is_pinned` does."""
    return not isinstance(tensor, SimulatedTensor) and tensor in SimulatedAccelerator.active().pinned


def set_data(tensor: torch.Tensor, value: torch.Tensor) -> None:
    """Do as assigning to `Tensor.data` does."""
    if not (isinstance(value, SimulatedTensor) or isinstance(tensor, SimulatedTensor)):
        torch.Tensor.data.__set__(tensor, value)  # type: ignore[attr-defined]  # a property of C
        return
    replacement: torch.Tensor = value.detach()
    if isinstance(tensor, torch.nn.Parameter):
        replacement = torch.nn.Parameter(replacement, requires_grad=tensor.requires_grad)
    _swap(tensor, replacement)
