"""Functions whose binding in torch's C++ would ask the CUDA driver, called without it.

A binding that makes the tensor's device current asks the driver before anything reaches `__torch_dispatch__`.
Such a function gets a tensor of the same memory that says it is on the CPU; what it does arrives in
`__torch_dispatch__` all the same.

Source: torch `tools/autograd/templates/python_variable_methods.cpp` and
`torch/csrc/autograd/python_variable_indexing.cpp`, wherever there is a device guard.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from kindaware.testing.accelerator.tensors.tensor import SimulatedTensor

GUARDED_METHODS = (
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
"""Those of `torch.Tensor` that are bound with a device guard."""


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
    """Replace tensors by ones that face torch as the CPU's, and note which tensor is behind each.

    No closure: its reference cycle would keep the tensors alive.
    """
    if isinstance(value, SimulatedTensor):
        face = value.faced_as_host()
        behind[id(face)] = face, value
        return face
    return type(value)(_faced(one, behind) for one in value) if type(value) in (tuple, list) else value
