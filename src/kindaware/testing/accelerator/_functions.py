"""What is caught before torch looks for a driver: functions that name CUDA, or page-locked memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kindaware.testing.accelerator._copies import copy_
from kindaware.testing.accelerator._moves import (
    copy_into,
    is_pinned,
    move,
    move_to_cuda,
    pin_memory,
    set_data,
)
from kindaware.testing.accelerator._operations import is_cuda, run_operation
from kindaware.testing.accelerator._tensor import SimulatedTensor

if TYPE_CHECKING:
    from kindaware.testing.accelerator._accelerator import SimulatedAccelerator

_Tensor = torch.Tensor
_EMPTY = {torch.empty, torch.empty_like, torch.empty_strided, _Tensor.new_empty}


class CudaOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's base has no types
    """Catches operations that make a tensor on a CUDA device out of nothing, inside of torch."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(isinstance(leaf, SimulatedTensor) or is_cuda(leaf) for leaf in tree_leaves((args, kwargs))):
            return run_operation(func, args, kwargs)
        return func(*args, **kwargs)


class CudaFunctions(TorchFunctionMode):
    """Catches functions of torch that name a CUDA device, and those about page-locked memory.

    Args:
        accelerator: stands for CUDA.
    """

    def __init__(self, accelerator: SimulatedAccelerator) -> None:
        super().__init__()
        self._accelerator = accelerator
        self._table: dict[Any, Callable[..., Any]] = {
            torch.nonzero: lambda tensor, **kwargs: tensor.nonzero(**kwargs),
            _Tensor.to: move,
            _Tensor.cuda: move_to_cuda,
            _Tensor.copy_: copy_into,
            _Tensor.pin_memory: pin_memory,
            _Tensor.is_pinned: is_pinned,
            _Tensor.data.__set__: set_data,  # type: ignore[attr-defined]  # a property of C
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self._table:
            return self._table[func](*args, **kwargs)
        if kwargs.get("pin_memory"):
            made = func(*args, **{**kwargs, "pin_memory": False})
            self._accelerator.call("allocate page-locked memory")
            return self._accelerator.pinned.add(made)
        device = _as_cuda(kwargs.get("device"))
        return func(*args, **kwargs) if device is None else self._make(device, func, args, kwargs)

    def _make(self, device: torch.device, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run a function that makes a tensor on a device."""
        ordinal = self._accelerator.ordinal_of(device)
        sources = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, SimulatedTensor)]
        if sources and sources[0].ordinal == ordinal:
            return func(*args, **{name: value for name, value in kwargs.items() if name != "device"})
        value = func(*args, **{**kwargs, "device": torch.device("cpu")})
        if not isinstance(value, torch.Tensor):
            raise NotImplementedError(
                f"simulated accelerator: expected a function that makes a tensor, got {func}; make it on the "
                "CPU and move it with .to(device)"
            )
        made = self._accelerator.empty_like(value, ordinal)
        if func not in _EMPTY:
            copy_(made, value)
        return made


def _as_cuda(device: Any) -> torch.device | None:
    """Give the CUDA device that an argument names, if it does."""
    if device is None or isinstance(device, bool):
        return None
    if isinstance(device, int):
        return torch.device("cuda", device)
    named = torch.device(device) if isinstance(device, str) else device
    return named if is_cuda(named) else None
