"""All forms of `Tensor.to`, page-locked memory, and `Tensor.data`."""

from __future__ import annotations

from typing import Any

import torch

from kindaware.testing.accelerator.machine.plain import without_dispatch
from kindaware.testing.accelerator.tensors.copies import machine_of, to_copy
from kindaware.testing.accelerator.tensors.tensor import SimulatedTensor

_to: Any = torch.Tensor.to
_data: Any = torch.Tensor.data
_swap: Any = torch.utils.swap_tensors


def move(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Do as `Tensor.to` does, in all its forms."""
    if args and isinstance(args[0], torch.Tensor):
        return move(tensor, args[0].device, args[0].dtype, *args[1:], **kwargs)
    if isinstance(kwargs.get("other"), torch.Tensor):
        other = kwargs.pop("other")
        return move(tensor, other.device, other.dtype, *args, **kwargs)
    args, kwargs = _with_device_object(args, dict(kwargs))
    copy = kwargs.pop("copy", False)
    # `copy` is third after (dtype, non_blocking), fourth after (device, dtype, non_blocking).
    num_before_copy = 2 if args and isinstance(args[0], torch.dtype) else 3
    if len(args) > num_before_copy:
        copy, args = args[num_before_copy], args[:num_before_copy]
    device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
    if not isinstance(tensor, SimulatedTensor) and (device is None or device.type != "cuda"):
        moved: torch.Tensor = _to(tensor, *args, **kwargs, copy=copy)
        return moved
    return _moved(tensor, device, dtype, non_blocking, copy, memory_format)


def _with_device_object(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Replace a number, which is a CUDA device, by the device: torch would look for a driver otherwise."""
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
    there = torch.device("cuda", machine_of(tensor).ordinal_of(device))
    return _moved(tensor, there, None, non_blocking, False, memory_format)


def _moved(
    tensor: torch.Tensor,
    device: torch.device | None,
    dtype: torch.dtype | None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: torch.memory_format | None = None,
) -> torch.Tensor:
    here = torch.device("cuda", tensor.ordinal) if isinstance(tensor, SimulatedTensor) else tensor.device
    device = here if device is None else device
    if device.type == "cuda":
        device = torch.device("cuda", machine_of(tensor).ordinal_of(device))
    is_laid_out = memory_format in (None, torch.preserve_format) or tensor.is_contiguous(
        memory_format=memory_format
    )
    if here == device and dtype in (None, tensor.dtype) and is_laid_out and not copy:
        return tensor
    return to_copy(tensor, dtype=dtype, device=device, non_blocking=non_blocking, memory_format=memory_format)


def to_device(tensor: torch.Tensor, device: torch.device, dtype: torch.dtype, *more: Any) -> torch.Tensor:
    """Do as `aten::to.device` does."""
    return _moved(tensor, device, dtype, *more)


def to_dtype(tensor: torch.Tensor, dtype: torch.dtype, *more: Any) -> torch.Tensor:
    """Do as `aten::to.dtype` does."""
    return _moved(tensor, None, dtype, *more)


def to_layout(
    tensor: torch.Tensor,
    *,
    dtype: torch.dtype | None = None,
    layout: object = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
    **more: Any,
) -> torch.Tensor:
    """Do as `aten::to.dtype_layout` does."""
    return _moved(tensor, device, dtype, **more)


def to_other(tensor: torch.Tensor, other: torch.Tensor, *more: Any) -> torch.Tensor:
    """Do as `aten::to.other` does."""
    return _moved(tensor, other.device, other.dtype, *more)


def pin_memory(tensor: torch.Tensor, device: Any = None) -> torch.Tensor:
    """Do as `Tensor.pin_memory` does."""
    if isinstance(tensor, SimulatedTensor):
        raise RuntimeError(f"cannot pin '{tensor.type()}' only dense CPU tensors can be pinned")
    machine = machine_of(tensor)
    if machine.host.is_pinned(tensor):
        return tensor
    machine.call("allocate page-locked memory")
    return machine.host.pin(tensor.detach().clone(memory_format=torch.contiguous_format))


def is_pinned(tensor: torch.Tensor, device: Any = None) -> bool:
    """Do as `Tensor.is_pinned` does."""
    return not isinstance(tensor, SimulatedTensor) and machine_of(tensor).host.is_pinned(tensor)


def get_data(tensor: torch.Tensor) -> torch.Tensor:
    """Do as reading `Tensor.data` does, which in inference mode fails if a mode makes the result."""
    if isinstance(tensor, SimulatedTensor):
        return tensor.detach()
    with without_dispatch():
        return _data.__get__(tensor)  # type: ignore[no-any-return]  # a property of C


def set_data(tensor: torch.Tensor, value: torch.Tensor) -> None:
    """Do as assigning to `Tensor.data` does."""
    if not (isinstance(value, SimulatedTensor) or isinstance(tensor, SimulatedTensor)):
        _data.__set__(tensor, value)
        return
    replacement: torch.Tensor = value.detach()
    if isinstance(tensor, torch.nn.Parameter):
        replacement = torch.nn.Parameter(replacement, requires_grad=tensor.requires_grad)
    _swap(tensor, replacement)  # torch's own assignment refuses a tensor of another type
