"""Copies between host and device, with CUDA's rules for what waits for them.

| from, to | who waits |
|---|---|
| pageable host memory to a device | the host, until the source was read; if blocking, for the stream |
| page-locked memory to a device, `non_blocking` | nobody: the source is read when the stream gets to it |
| a device to host memory, `non_blocking` | nobody: the target is poison until the stream gets to it |
| a device to another | the two current streams for each other; never the host |
| host and device, blocking | the host, for the stream |

A copy of anything but one run of bytes goes through a temporary tensor of torch's own: a source on the host
is read at once, and for a target on the host the host waits.

Source: torch `aten/src/ATen/native/cuda/Copy.cu` (copy_kernel_cuda, copy_requires_temporaries,
copy_device_to_device); CUDA runtime API, "API synchronization behavior".
"""

from __future__ import annotations

import torch

from kindaware.testing.accelerator.machine.machine import Machine
from kindaware.testing.accelerator.machine.memory import num_bytes_spanned
from kindaware.testing.accelerator.machine.plain import plain_torch
from kindaware.testing.accelerator.tensors.allocation import empty_like
from kindaware.testing.accelerator.tensors.tensor import SimulatedTensor

_NEEDS_PINNED = (
    "Cannot copy between CPU and CUDA tensors during CUDA graph capture unless the CPU tensor is pinned. "
    "Please use tensor.pin_memory() or allocate the tensor with pin_memory=True."
)


def copy_(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """Copy in place, broadcasting and converting as `Tensor.copy_` does."""
    with plain_torch():
        # Wrong shapes are an error now, not when the stream gets to the copy.
        torch.empty(source.shape, device="meta").expand(target.shape)
    if isinstance(target, SimulatedTensor) and isinstance(source, SimulatedTensor):
        _between_devices(target, source)
    elif isinstance(target, SimulatedTensor):
        _to_device(target, source, non_blocking)
    else:
        assert isinstance(source, SimulatedTensor)
        _to_host(target, source, non_blocking)
    return target


def fill(machine: Machine, target: SimulatedTensor, value: torch.Tensor, name: str) -> None:
    """Queue work that writes a known value to a tensor."""
    elements = target.elements
    machine.submit(target.ordinal, name, lambda: elements.copy_(value), (), [target.span])


def _to_device(target: SimulatedTensor, source: torch.Tensor, non_blocking: bool) -> None:
    machine, ordinal = target.machine, target.ordinal
    machine.call("copy to the device", ordinal)
    is_pinned = machine.host.is_pinned(source)
    _check_capture(machine, ordinal, is_pinned)
    elements = target.elements
    is_whole = source.size() == target.size() and source.is_contiguous()
    if non_blocking and is_pinned and not _has_flags(source) and (is_whole or _is_run(elements, source)):
        read = machine.host.reader(source, elements.copy_)
        machine.submit(ordinal, "copy to the device", None, [read.span], [target.span], prepare=read.queue)
        return
    with plain_torch():
        staged = source.detach().clone()
    fill(machine, target, staged, "copy to the device")
    if not non_blocking:
        machine.synchronize_stream(ordinal)


def _to_host(target: torch.Tensor, source: SimulatedTensor, non_blocking: bool) -> None:
    machine, ordinal = source.machine, source.ordinal
    machine.call("copy to the host", ordinal)
    _check_capture(machine, ordinal, machine.host.is_pinned(target))
    elements = source.elements
    is_late = (
        non_blocking and not _has_flags(target) and (target.is_contiguous() or _is_run(target, elements))
    )
    if is_late and target.numel():
        write = machine.host.writer(target, elements)
        machine.submit(ordinal, "copy to the host", None, [source.span], [write.span], prepare=write.queue)
        return
    machine.submit(ordinal, "copy to the host", lambda: target.copy_(elements), [source.span], ())
    machine.synchronize_stream(ordinal)


def _between_devices(target: SimulatedTensor, source: SimulatedTensor) -> None:
    machine, is_near = target.machine, target.ordinal == source.ordinal
    name = "copy on the device" if is_near else "copy between devices"
    machine.call(name, source.ordinal)
    into, from_ = target.elements, source.elements
    if not is_near:
        machine.order(source.ordinal, after=target.ordinal)
    machine.submit(source.ordinal, name, lambda: into.copy_(from_), [source.span], [target.span])
    if not is_near:
        machine.order(target.ordinal, after=source.ordinal)


def _check_capture(machine: Machine, ordinal: int, is_pinned: bool) -> None:
    """Refuse to copy from or to pageable memory during a capture.

    Raises:
        RuntimeError: the memory is pageable, and the current stream captures; in torch's words.
    """
    if not is_pinned and machine.current_stream(ordinal) in machine.devices[ordinal].captures:
        raise RuntimeError(_NEEDS_PINNED)


def _is_run(target: torch.Tensor, source: torch.Tensor) -> bool:
    """Return whether a copy moves one run of bytes, unchanged."""
    return (
        target.dtype == source.dtype
        and target.size() == source.size()
        and target.stride() == source.stride()
        and num_bytes_spanned(target) == target.numel() * target.itemsize
    )


def _has_flags(tensor: torch.Tensor) -> bool:
    """Return whether reading a tensor conjugates or negates its elements."""
    return tensor.is_neg() or (tensor.is_complex() and tensor.is_conj())


def to_copy(
    source: torch.Tensor,
    *,
    dtype: torch.dtype | None = None,
    layout: object = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
    non_blocking: bool = False,
    memory_format: torch.memory_format | None = None,
) -> torch.Tensor:
    """Return a copy with another dtype, device or memory format."""
    machine = machine_of(source)
    with plain_torch():
        # `meta` tells what strides the copy has, without memory for its elements.
        elements = source.elements if isinstance(source, SimulatedTensor) else source
        twin = torch.empty_strided(elements.size(), elements.stride(), dtype=elements.dtype, device="meta")
        like = torch.empty_like(
            twin, dtype=dtype or source.dtype, memory_format=memory_format or torch.preserve_format
        )
    if device is None:
        device = source.device
    if device.type == "cuda":
        return copy_(empty_like(machine, like, machine.ordinal_of(device)), source, non_blocking)
    # The target is plain memory of the host: neither the modes nor a default device may change it.
    with torch._C.DisableTorchFunction(), torch.utils._python_dispatch._disable_current_modes():
        target = torch.empty_strided(like.size(), like.stride(), dtype=like.dtype)
    if non_blocking:
        machine.host.pin(target)  # torch makes the target of such a copy page-locked
    return copy_(target, source, non_blocking)


def machine_of(tensor: torch.Tensor) -> Machine:
    """Return the machine of a tensor; for a tensor on the host, the active one."""
    return tensor.machine if isinstance(tensor, SimulatedTensor) else Machine.active()
