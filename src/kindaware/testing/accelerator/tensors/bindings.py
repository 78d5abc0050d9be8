"""Methods whose binding in torch's C++ would ask the CUDA driver, done without it.

A binding that makes the tensor's device current asks the driver before anything reaches `__torch_dispatch__`.
Such a method gets a tensor of the same memory that says it is on the CPU; what it does arrives in
`__torch_dispatch__` all the same.

Source: torch `tools/autograd/templates/python_variable_methods.cpp` and
`torch/csrc/autograd/python_variable_indexing.cpp`, wherever there is a device guard.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from kindaware.testing.accelerator.tensors.tensor import SimulatedTensor

_GUARDED = (
    "__bool__",
    "__complex__",
    "__float__",
    "__getitem__",
    "__index__",
    "__int__",
    "__invert__",
    "__setitem__",
    "contiguous",
    "copy_",
    "nonzero",
)


def without_driver(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that it sees simulated tensors as tensors of the CPU."""

    @functools.wraps(original)
    def function(*args: Any, **kwargs: Any) -> Any:
        behind: dict[int, tuple[SimulatedTensor, SimulatedTensor]] = {}
        found = original(*_faced(args, behind), **{name: _faced(one, behind) for name, one in kwargs.items()})
        for face, tensor in behind.values():
            if face.elements is not tensor.elements:
                tensor.become(face.elements, face.allocation)
        return behind[id(found)][1] if id(found) in behind else found

    return function


def _faced(value: Any, behind: dict[int, tuple[SimulatedTensor, SimulatedTensor]]) -> Any:
    """Give tensors the CPU's face, and note who is behind it. No closure: its cycle would keep tensors."""
    if isinstance(value, SimulatedTensor):
        face = value.faced_as_host()
        behind[id(face)] = face, value
        return face
    return type(value)(_faced(one, behind) for one in value) if type(value) in (tuple, list) else value


def _new_tensor(tensor: SimulatedTensor, data: Any, **options: Any) -> torch.Tensor:
    """Do as `Tensor.new_tensor` does."""
    return torch.tensor(data, **{"dtype": tensor.dtype, "device": tensor.device, **options})


def _new(tensor: SimulatedTensor, *args: Any, **options: Any) -> torch.Tensor:
    """Do as the old `Tensor.new` does."""
    return torch.empty(0, dtype=tensor.dtype, device="cpu").new(*args, **options).to(tensor.device)


for _name in _GUARDED:
    setattr(SimulatedTensor, _name, without_driver(getattr(torch.Tensor, _name)))
for _method in (_new_tensor, _new):
    setattr(SimulatedTensor, _method.__name__[1:], _method)
