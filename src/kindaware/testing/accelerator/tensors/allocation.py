"""Memory for tensors of a device, on the stream that is current."""

from __future__ import annotations

import functools
from typing import Any

import torch

from kindaware.testing.accelerator.machine.machine import Machine
from kindaware.testing.accelerator.machine.memory import POISON, Allocation, num_bytes_spanned
from kindaware.testing.accelerator.tensors.tensor import SimulatedTensor, elements_of


def allocate(machine: Machine, ordinal: int, num_bytes: int) -> Allocation:
    """Take memory on a device's current stream; what it holds is not known.

    Raises:
        torch.OutOfMemoryError: there is too little.
    """
    machine.call("allocate", ordinal)
    stream, device = machine.current_stream(ordinal), machine.devices[ordinal]
    capture = device.captures.get(stream)
    return device.memory.allocate(num_bytes, stream if capture is None else capture.graph.pool)


def empty_like(machine: Machine, like: torch.Tensor, ordinal: int) -> SimulatedTensor:
    """Make a tensor of the shape, strides and dtype of another; what it holds is not known."""
    allocation = allocate(machine, ordinal, num_bytes_spanned(like))
    return SimulatedTensor.wrap(machine, elements_of(allocation.block, like), allocation)


def poison(machine: Machine, ordinal: int, allocation: Allocation) -> None:
    """Let memory that had an owner before hold nothing of his, where the current stream gets there."""
    stream = machine.current_stream(ordinal)
    if allocation.is_reused and stream not in machine.devices[ordinal].captures:
        fill: Any = allocation.block.store.fill_
        machine.timeline.submit(stream, "poison", functools.partial(fill, POISON))
