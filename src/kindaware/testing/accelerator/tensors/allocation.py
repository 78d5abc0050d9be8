"""Memory for tensors of a device, on the stream that is current."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch

from kindaware.testing.accelerator.machine.memory import POISON, Allocation, num_bytes_spanned
from kindaware.testing.accelerator.tensors.tensor import SimulatedTensor, elements_of

if TYPE_CHECKING:
    from kindaware.testing.accelerator.machine.machine import SimulatedAccelerator


def allocate(accelerator: SimulatedAccelerator, ordinal: int, num_bytes: int) -> Allocation:
    """Take memory on a device's current stream; what it holds is not known.

    Raises:
        torch.OutOfMemoryError: there is too little.
    """
    accelerator.call("allocate", ordinal)
    stream, device = accelerator.current_stream(ordinal), accelerator.devices[ordinal]
    capture = device.captures.get(stream)
    return device.memory.allocate(num_bytes, stream if capture is None else capture.graph.pool)


def empty_like(accelerator: SimulatedAccelerator, like: torch.Tensor, ordinal: int) -> SimulatedTensor:
    """Make a tensor of the shape, strides and dtype of another; what it holds is not known."""
    allocation = allocate(accelerator, ordinal, num_bytes_spanned(like))
    return SimulatedTensor.wrap(accelerator, elements_of(allocation.block, like), allocation)


def poison(accelerator: SimulatedAccelerator, ordinal: int, allocation: Allocation) -> None:
    """Let memory that had an owner before hold nothing of his, where the current stream gets there."""
    stream = accelerator.current_stream(ordinal)
    if allocation.is_reused and stream not in accelerator.devices[ordinal].captures:
        fill: Any = allocation.block.store.fill_
        accelerator.timeline.submit(stream, "poison", functools.partial(fill, POISON))
