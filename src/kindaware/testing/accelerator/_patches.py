"""Puts an accelerator in the place of torch's CUDA, for a while."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from kindaware.testing.accelerator import _cuda
from kindaware.testing.accelerator._accelerator import SimulatedAccelerator
from kindaware.testing.accelerator._exchange import from_dlpack

_CAPABILITY = (9, 0)
_sim = SimulatedAccelerator.active


def _properties(device: Any = None) -> Any:
    ordinal = _sim().ordinal_of(device)
    return SimpleNamespace(
        name=_name(ordinal),
        major=_CAPABILITY[0],
        minor=_CAPABILITY[1],
        total_memory=_sim().devices[ordinal].memory.limit_bytes,
        multi_processor_count=1,
    )


def _name(device: Any = None) -> str:
    return f"simulated GPU {_sim().ordinal_of(device)}"


def _memory(attribute: str) -> Any:
    return lambda device=None: getattr(_sim().devices[_sim().ordinal_of(device)].memory, attribute)


def _mem_get_info(device: Any = None) -> tuple[int, int]:
    memory = _sim().devices[_sim().ordinal_of(device)].memory
    return memory.limit_bytes - memory.reserved_bytes, memory.limit_bytes


def _reset_peak(device: Any = None) -> None:
    memory = _sim().devices[_sim().ordinal_of(device)].memory
    memory.peak_bytes = memory.allocated_bytes


def _set_sync_debug_mode(mode: int | str) -> None:
    modes = {"default": 0, "warn": 1, "error": 2}
    _sim().sync_debug_mode = modes[mode] if isinstance(mode, str) else mode


def _refuse_init() -> None:
    name = sys._getframe(1).f_code.co_name
    raise NotImplementedError(
        f"simulated accelerator: expected a function of torch.cuda that it models, got "
        f"{name}; see the page on the simulated accelerator for those it has"
    )


def _refuse_compile(*_: Any, **__: Any) -> None:
    raise NotImplementedError(
        "simulated accelerator: expected eager code, got torch.compile; test it with compile off"
    )


_FUNCTIONS: dict[str, Any] = {
    "Stream": _cuda.Stream,
    "Event": _cuda.Event,
    "CUDAGraph": _cuda.CUDAGraph,
    "graph": _cuda.graph,
    "device": _cuda.use_device,
    "stream": _cuda.use_stream,
    "StreamContext": _cuda.use_stream,
    "current_stream": _cuda.current_stream,
    "default_stream": _cuda.default_stream,
    "set_stream": _cuda.set_stream,
    "set_device": _cuda.set_device,
    "synchronize": _cuda.synchronize,
    "empty_cache": _cuda.empty_cache,
    "get_sync_debug_mode": lambda: _sim().sync_debug_mode,
    "set_sync_debug_mode": _set_sync_debug_mode,
    "is_current_stream_capturing": _cuda.is_current_stream_capturing,
    "graph_pool_handle": object,
    "is_available": lambda: bool(_sim().devices),
    "is_initialized": lambda: True,
    "init": lambda: None,
    "device_count": lambda: len(_sim().devices),
    "current_device": lambda: _sim().current.ordinal,
    "get_device_name": _name,
    "get_device_capability": lambda device=None: _CAPABILITY,
    "get_device_properties": _properties,
    "is_bf16_supported": lambda including_emulation=True: True,
    "memory_allocated": _memory("allocated_bytes"),
    "memory_reserved": _memory("reserved_bytes"),
    "max_memory_allocated": _memory("peak_bytes"),
    "max_memory_reserved": _memory("reserved_bytes"),
    "reset_peak_memory_stats": _reset_peak,
    "mem_get_info": _mem_get_info,
    "manual_seed": lambda seed: None,
    "manual_seed_all": lambda seed: None,
    "_lazy_init": _refuse_init,
}


def _start_of(accelerator: SimulatedAccelerator) -> Any:
    """Wrap `Thread.start`: a thread that a model starts uses the devices as the model does."""
    original = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        process, run = accelerator.process, thread.run

        def entered() -> None:
            with accelerator.entered(process):
                run()

        if process is not None:
            thread.run = entered  # type: ignore[method-assign]  # for this thread alone
        original(thread)

    return start


@contextlib.contextmanager
def patched_torch(accelerator: SimulatedAccelerator) -> Iterator[None]:
    """Put the accelerator in the place of torch's CUDA, for the whole process."""
    take = from_dlpack(torch.utils.dlpack.from_dlpack)
    was_swapping = torch.__future__.get_swap_module_params_on_conversion()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.multiple(torch.cuda, **_FUNCTIONS))
        stack.enter_context(mock.patch.object(torch.utils.dlpack, "from_dlpack", take))
        stack.enter_context(mock.patch.object(torch, "from_dlpack", take))
        stack.enter_context(mock.patch.object(torch, "compile", _refuse_compile))
        stack.enter_context(mock.patch.object(threading.Thread, "start", _start_of(accelerator)))
        # A parameter that moves to a device keeps being the same object, as it is on CUDA.
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, was_swapping)
        # cuDNN's own operations exist on CUDA alone.
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield
