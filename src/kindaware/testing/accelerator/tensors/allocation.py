"""Memory for the tensors of a device, allocated on the current stream."""

from __future__ import annotations

import functools
from typing import Any

import torch

from kindaware.testing.accelerator.machine.machine import Machine
from kindaware.testing.accelerator.machine.memory import POISON, Allocation, num_bytes_spanned
from kindaware.testing.accelerator.tensors.tensor import SimulatedTensor, elements_of


def allocate(machine: Machine, ordinal: int, num_bytes: int) -> Allocation:
    """Return memory of a device, allocated on its current stream, with unknown contents.

    Raises:
        torch.OutOfMemoryError: there is too little.
    """
    machine.call("allocate", ordinal)
    stream, device = machine.current_stream(ordinal), machine.devices[ordinal]
    capture = device.captures.get(stream)
    return device.memory.allocate(num_bytes, stream if capture is None else capture.graph.pool)


def empty_like(machine: Machine, like: torch.Tensor, ordinal: int) -> SimulatedTensor:
    """Return a tensor with the shape, strides and dtype of another, with unknown contents."""
    allocation = allocate(machine, ordinal, num_bytes_spanned(like))
    return SimulatedTensor.wrap(machine, elements_of(allocation.block, like), allocation)


def poison(machine: Machine, ordinal: int, allocation: Allocation) -> None:
    """Queue the poisoning of reused memory, which still holds what its last owner left."""
    stream = machine.current_stream(ordinal)
    if allocation.is_reused and stream not in machine.devices[ordinal].captures:
        fill: Any = allocation.block.store.fill_
        machine.timeline.submit(stream, "poison", functools.partial(fill, POISON))
