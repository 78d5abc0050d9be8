"""Copies between host and device, with CUDA's rules for what waits.

| from, to | what waits |
|---|---|
| pageable host memory to a device | the host, until the source was read; the copy itself only if blocking |
| page-locked memory to a device, `non_blocking` | nothing: the source is read when the stream gets there |
| a device to page-locked memory, `non_blocking` | nothing: the target is poison until the stream gets there |
| a device to pageable memory | the host, for the stream |
| a device to another | each one's current stream for the other |
| without `non_blocking` | the host, for the stream |

Source: aten/src/ATen/native/cuda/Copy.cu (copy_kernel_cuda, copy_requires_temporaries); CUDA runtime API,
"API synchronization behavior".
"""

from __future__ import annotations

from typing import Any

import torch

from kindaware.testing.accelerator._memory import POISON
from kindaware.testing.accelerator._plain import plain_torch
from kindaware.testing.accelerator._tensor import SimulatedTensor


def copy_(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """Copy in place, broadcasting and converting as `Tensor.copy_` does."""
    with plain_torch():
        # Wrong shapes are an error now, not when the stream gets there.
        torch.empty(source.shape, device="meta").expand(target.shape)
    if not isinstance(source, SimulatedTensor):
        assert isinstance(target, SimulatedTensor)
        _to_device(target, source, non_blocking)
    elif not isinstance(target, SimulatedTensor):
        _to_host(target, source, non_blocking)
    elif target.ordinal == source.ordinal:
        _on_device(target, source)
    else:
        _between_devices(target, source, non_blocking)
    return target


def to_copy(
    source: torch.Tensor,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
    non_blocking: bool = False,
    memory_format: torch.memory_format | None = None,
) -> torch.Tensor:
    """Make a copy of another dtype, device or memory format."""
    accelerator = _accelerator_of(source)
    with plain_torch():
        elements = source.elements if isinstance(source, SimulatedTensor) else source
        twin = torch.empty_strided(elements.size(), elements.stride(), dtype=elements.dtype, device="meta")
        like = torch.empty_like(
            twin, dtype=dtype or source.dtype, memory_format=memory_format or torch.preserve_format
        )
    device = source.device if device is None else device
    if device.type == "cuda":
        target: torch.Tensor = accelerator.empty_like(like, accelerator.ordinal_of(device))
    else:
        with torch._C.DisableTorchFunction(), torch.utils._python_dispatch._disable_current_modes():
            target = torch.empty_strided(like.size(), like.stride(), dtype=like.dtype)
        if non_blocking:
            accelerator.pinned.add(target)  # torch makes the target of such a copy page-locked
    return copy_(target, source, non_blocking)


def _accelerator_of(tensor: torch.Tensor) -> Any:
    from kindaware.testing.accelerator._accelerator import SimulatedAccelerator

    return tensor.accelerator if isinstance(tensor, SimulatedTensor) else SimulatedAccelerator.active()


def _to_device(target: SimulatedTensor, source: torch.Tensor, non_blocking: bool) -> None:
    accelerator, block = target.accelerator, target.allocation.block
    accelerator.call("copy to the device", target.ordinal)
    is_late = non_blocking and source in accelerator.pinned
    if not is_late:
        accelerator.refuse_capture(target.ordinal, "a copy from pageable memory")
    with plain_torch():
        snapshot = source.detach().clone()
    elements = target.elements

    def run() -> None:
        if is_late and not _same_bits(source, snapshot):
            accelerator.report(
                "send other data than the model had written: the host changed page-locked memory from which "
                "a queued copy had still to read",
                "wait for the copy (an event, or the stream) before writing to its source again",
            )
        elements.copy_(source if is_late else snapshot)

    accelerator.submit(target.ordinal, "copy to the device", run, [], [block])
    if not non_blocking:
        accelerator.synchronize_stream(target.ordinal)


def _to_host(target: torch.Tensor, source: SimulatedTensor, non_blocking: bool) -> None:
    accelerator, block = source.accelerator, source.allocation.block
    accelerator.call("copy to the host", source.ordinal)
    is_late = non_blocking and target in accelerator.pinned
    if not is_late:
        accelerator.refuse_capture(source.ordinal, "a copy to pageable memory")
    elements = source.elements
    if is_late:
        with plain_torch():
            _poison(target)

    def run() -> None:
        if is_late and not _is_poison(target):
            accelerator.report(
                "overwrite data: the host wrote to page-locked memory that a queued copy was about to fill",
                "wait for the copy (an event, or the stream) before using its target for anything else",
            )
        target.copy_(elements)

    accelerator.submit(source.ordinal, "copy to the host", run, [block], [])
    if not is_late:
        accelerator.synchronize_stream(source.ordinal)


def _on_device(target: SimulatedTensor, source: SimulatedTensor) -> None:
    accelerator = target.accelerator
    accelerator.call("copy on the device", target.ordinal)
    into, from_ = target.elements, source.elements
    accelerator.submit(
        target.ordinal,
        "copy on the device",
        lambda: into.copy_(from_),
        [source.allocation.block],
        [target.allocation.block],
    )


def _between_devices(target: SimulatedTensor, source: SimulatedTensor, non_blocking: bool) -> None:
    accelerator = target.accelerator
    accelerator.call("copy between devices", source.ordinal)
    into, from_ = target.elements, source.elements
    accelerator.order(source.ordinal, after=target.ordinal)
    accelerator.submit(
        source.ordinal,
        "copy between devices",
        lambda: into.copy_(from_),
        [source.allocation.block],
        [target.allocation.block],
    )
    accelerator.order(target.ordinal, after=source.ordinal)
    if not non_blocking:
        accelerator.synchronize_stream(source.ordinal)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.numel() == 0 or torch.equal(_bits(one), _bits(other))


def _poison(tensor: torch.Tensor) -> None:
    poison = torch.full((tensor.numel() * tensor.itemsize,), POISON, dtype=torch.uint8)
    if tensor.numel():
        tensor.copy_(poison.view(tensor.dtype).view(tensor.shape))


def _is_poison(tensor: torch.Tensor) -> bool:
    # Compared as bytes where they are a bool's: a bool of poison reads as True.
    if tensor.numel() == 0 or tensor.dtype == torch.bool:
        return True
    return bool((_bits(tensor) == POISON).all())
