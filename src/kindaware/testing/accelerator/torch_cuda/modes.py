"""Modes that make torch use simulated GPUs in one thread."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from kindaware.testing.accelerator.machine.errors import not_simulated
from kindaware.testing.accelerator.machine.machine import Machine
from kindaware.testing.accelerator.tensors.device_guards import without_driver
from kindaware.testing.accelerator.tensors.moves import (
    get_data,
    is_pinned,
    move,
    move_to_cuda,
    pin_memory,
    set_data,
)
from kindaware.testing.accelerator.tensors.operations import names_cuda, run_operation
from kindaware.testing.accelerator.tensors.tensor import SimulatedTensor

# The slot of torch's FakeTensorMode.
_PLACE = torch._C._TorchDispatchModeKey.FAKE
_aten = torch.ops.aten
_Tensor = torch.Tensor
_data: Any = torch.Tensor.data
_ABOUT_PINNED_MEMORY: dict[Any, Callable[..., Any]] = {
    _aten.is_pinned.default: is_pinned,
    _aten.pin_memory.default: pin_memory,
    _aten._pin_memory.default: pin_memory,
}


class CudaOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's base has no types
    """Catches operations that make a tensor on a CUDA device, or page-locked memory.

    It takes the place of torch's own mode for fake tensors: while that place is taken, torch does not look
    for a driver before it makes a tensor on CUDA.
    Source: torch `torch/csrc/utils/device_lazy_init.cpp`.

    Args:
        machine: stands for CUDA.
    """

    def __init__(self, machine: Machine) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the same
        self._mode_key = _PLACE
        self._machine = machine

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch wraps `__torch_dispatch__` in what imports the compiler

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _ABOUT_PINNED_MEMORY:
            return _ABOUT_PINNED_MEMORY[func](*args, **kwargs)
        if SimulatedTensor in types or names_cuda(args, kwargs):
            return run_operation(func, args, kwargs)
        if kwargs.get("pin_memory"):
            self._machine.call("allocate page-locked memory")
            return self._machine.host.pin(func(*args, **{**kwargs, "pin_memory": False}))
        return func(*args, **kwargs)


class CudaFunctions(TorchFunctionMode):
    """Catches functions whose binding in C++ asks the driver which device is current."""

    def __init__(self) -> None:
        super().__init__()
        self._table: dict[Any, Callable[..., Any]] = {
            _Tensor.to: move,
            _Tensor.cuda: move_to_cuda,
            _data.__get__: get_data,
            _data.__set__: set_data,
            torch.nonzero: without_driver(torch.nonzero),
            torch.tensor: from_data(torch.tensor),
            torch.asarray: from_data(torch.asarray),
            torch.as_tensor: _as_tensor,
            torch.sparse_coo_tensor: _dense_only(torch.sparse_coo_tensor),
            torch.sparse_csr_tensor: _dense_only(torch.sparse_csr_tensor),
            torch.sparse_compressed_tensor: _dense_only(torch.sparse_compressed_tensor),
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._table.get(func, func)(*args, **(kwargs or {}))


@contextlib.contextmanager
def entered(machine: Machine, process: object) -> Iterator[None]:
    """Let torch use the devices in this thread, on behalf of a process with streams of its own."""
    with machine.of_process(process):
        if torch._C._get_dispatch_mode(_PLACE) is not None:
            yield  # the thread has entered already
            return
        # Functions are caught before they reach C++, operations on their way to a kernel.
        with CudaFunctions(), CudaOperations(machine):
            yield


def _device_of(kwargs: dict[str, Any]) -> torch.device | None:
    """Return the CUDA device on which a function is told to make a tensor, or None."""
    device = kwargs.get("device")
    if device is None:
        # `torch.set_default_device` loads this module; without it there is no default device.
        defaults = sys.modules.get("torch.utils._device")
        device = getattr(defaults, "CURRENT_DEVICE", None)
    if isinstance(device, int):
        device = torch.device("cuda", device)
    named = None if device is None else torch.device(device)
    return named if named is not None and named.type == "cuda" else None


def from_data(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Wrap a function that makes a tensor of data: it is made on the host, then moved, which waits."""

    def make(*args: Any, **kwargs: Any) -> torch.Tensor:
        device = _device_of(kwargs)
        if args and isinstance(args[0], SimulatedTensor):
            options = {name: value for name, value in kwargs.items() if name in ("dtype", "copy")}
            return move(args[0], device=kwargs.get("device"), **{"copy": function is torch.tensor, **options})
        is_pinned = kwargs.pop("pin_memory", False)
        if device is None:
            made = function(*map(_on_host, args), **kwargs)
            return pin_memory(made) if is_pinned else made
        return move(function(*map(_on_host, args), **{**kwargs, "device": "cpu"}), device)

    return make


def _as_tensor(data: Any, dtype: torch.dtype | None = None, device: Any = None) -> torch.Tensor:
    """Do as `torch.as_tensor` does, whose options may be positional."""
    return from_data(torch.as_tensor)(data, dtype=dtype, device=device)


def _on_host(value: Any) -> Any:
    """Replace tensors of a device, in nested lists, by their elements."""
    if isinstance(value, SimulatedTensor):
        return value.tolist()
    return type(value)(map(_on_host, value)) if type(value) in (list, tuple) else value


def _dense_only(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Wrap a function that makes a sparse tensor: simulated devices have none."""

    def make(*args: Any, **kwargs: Any) -> torch.Tensor:
        if _device_of(kwargs) is not None or any(isinstance(one, SimulatedTensor) for one in args):
            raise not_simulated(
                expected="dense tensors", got=function.__name__, remedy="test sparse tensors on the CPU"
            )
        return function(*args, **kwargs)

    return make
