"""Methods of `SimulatedTensor` that make tensors themselves.

They call modules that import the class, so they are bound to it when the first accelerator is installed.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from kindaware.testing.accelerator.tensors.device_guards import GUARDED_METHODS, without_driver
from kindaware.testing.accelerator.tensors.exchange import export
from kindaware.testing.accelerator.tensors.files import reduce_tensor
from kindaware.testing.accelerator.tensors.operations import run_operation
from kindaware.testing.accelerator.tensors.tensor import SimulatedTensor


@functools.cache
def bind_methods() -> None:
    """Complete `SimulatedTensor`, once and for good: a tensor may outlive its accelerator."""
    for name, method in _METHODS.items():
        setattr(SimulatedTensor, name, method)


def _dispatch(cls: type, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    """Run an operation, as `SimulatedTensor.__torch_dispatch__`."""
    return run_operation(func, args, kwargs or {})


def _dlpack(tensor: SimulatedTensor, *, stream: Any = None, **kwargs: Any) -> Any:
    """Return a capsule; the stream with this handle waits for the current one, unless it is None or -1."""
    return export(tensor, stream)


def _new_tensor(tensor: SimulatedTensor, data: Any, **options: Any) -> torch.Tensor:
    """Do as `Tensor.new_tensor` does."""
    return torch.tensor(data, **{"dtype": tensor.dtype, "device": tensor.device, **options})


def _new(tensor: SimulatedTensor, *args: Any, **options: Any) -> torch.Tensor:
    """Do as the old `Tensor.new` does."""
    return torch.empty(0, dtype=tensor.dtype, device="cpu").new(*args, **options).to(tensor.device)


_METHODS: dict[str, Any] = {
    **{name: without_driver(getattr(torch.Tensor, name)) for name in GUARDED_METHODS},
    "__torch_dispatch__": classmethod(_dispatch),
    "__reduce_ex__": reduce_tensor,
    "__dlpack__": _dlpack,
    "new_tensor": _new_tensor,
    "new": _new,
}
