"""Puts a simulated machine in place of torch's CUDA, and puts torch back."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import torch

from kindaware.testing.accelerator.machine.errors import not_simulated
from kindaware.testing.accelerator.machine.machine import Machine
from kindaware.testing.accelerator.machine.memory import GraphPool
from kindaware.testing.accelerator.tensors import exchange as _exchange
from kindaware.testing.accelerator.tensors import files as _files
from kindaware.testing.accelerator.tensors import scripts as _scripts
from kindaware.testing.accelerator.torch_cuda import cuda as _cuda
from kindaware.testing.accelerator.torch_cuda import cuda_graphs as _cuda_graphs
from kindaware.testing.accelerator.torch_cuda import modes as _modes

_CAPABILITY = (9, 0)
_sim = Machine.active


def _memory_of(device: Any = None) -> Any:
    return _sim().devices[_sim().ordinal_of(device)].memory


def _name(device: Any = None) -> str:
    return f"simulated GPU {_sim().ordinal_of(device)}"


def _properties(device: Any = None) -> Any:
    return SimpleNamespace(
        name=_name(device),
        major=_CAPABILITY[0],
        minor=_CAPABILITY[1],
        total_memory=_memory_of(device).limit_bytes,
        multi_processor_count=1,
    )


def _memory_info(device: Any = None) -> tuple[int, int]:
    memory = _memory_of(device)
    return memory.limit_bytes - memory.reserved_bytes, memory.limit_bytes


def _memory_stats(device: Any = None) -> dict[str, int]:
    memory = _memory_of(device)
    return {
        "allocated_bytes.all.current": memory.allocated_bytes,
        "allocated_bytes.all.peak": memory.peak_bytes,
        "reserved_bytes.all.current": memory.reserved_bytes,
        "reserved_bytes.all.peak": memory.peak_reserved_bytes,
        "allocation.all.allocated": memory.num_allocations,
    }


def _statistic(name: str) -> Callable[..., int]:
    return lambda device=None: _memory_stats(device)[name]


def _reset_peak(device: Any = None) -> None:
    memory = _memory_of(device)
    memory.peak_bytes, memory.peak_reserved_bytes = memory.allocated_bytes, memory.reserved_bytes


def _manual_seed(seed: int) -> None:
    _sim().devices[_sim().current.ordinal].random.manual_seed(int(seed))


def _manual_seed_all(seed: int) -> None:
    for device in _sim().devices:
        device.random.manual_seed(int(seed))


def _set_sync_debug_mode(mode: int | str) -> None:
    modes = {"default": 0, "warn": 1, "error": 2}
    _sim().sync_debug_mode = modes[mode] if isinstance(mode, str) else mode


_CUDA: dict[str, Any] = {
    "Stream": _cuda.Stream,
    "ExternalStream": _cuda.ExternalStream,
    "Event": _cuda.Event,
    "CUDAGraph": _cuda_graphs.CUDAGraph,
    "graph": _cuda_graphs.graph,
    "device": _cuda.use_device,
    "device_of": _cuda.use_device_of,
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
    "graph_pool_handle": GraphPool,
    "is_available": lambda: bool(_sim().devices),
    "is_initialized": lambda: True,
    "init": lambda: None,
    "device_count": lambda: len(_sim().devices),
    "current_device": lambda: _sim().current.ordinal,
    "can_device_access_peer": lambda device, peer: True,
    "get_device_name": _name,
    "get_device_capability": lambda device=None: _CAPABILITY,
    "get_device_properties": _properties,
    "is_bf16_supported": lambda including_emulation=True: True,
    "is_tf32_supported": lambda: True,
    "memory_stats": _memory_stats,
    "memory_allocated": _statistic("allocated_bytes.all.current"),
    "memory_reserved": _statistic("reserved_bytes.all.current"),
    "max_memory_allocated": _statistic("allocated_bytes.all.peak"),
    "max_memory_reserved": _statistic("reserved_bytes.all.peak"),
    "memory_summary": lambda device=None, abbreviated=False: str(_memory_stats(device)),
    "reset_peak_memory_stats": _reset_peak,
    "mem_get_info": _memory_info,
    "manual_seed": _manual_seed,
    "manual_seed_all": _manual_seed_all,
}
_ACCELERATOR: dict[str, Any] = {
    **{name: _CUDA[name] for name in ("device_count", "is_available", "current_stream", "set_stream")},
    **{name: _CUDA[name] for name in ("synchronize", "empty_cache", "memory_stats", "memory_allocated")},
    **{name: _CUDA[name] for name in ("memory_reserved", "max_memory_allocated", "max_memory_reserved")},
    "current_accelerator": lambda check_available=False: torch.device("cuda"),
    "current_device_idx": _CUDA["current_device"],
    "current_device_index": _CUDA["current_device"],
    "device_index": _cuda.use_device,
    "get_memory_info": _memory_info,
    "reset_peak_memory_stats": _reset_peak,
    "set_device_idx": _cuda.set_device,
    "set_device_index": _cuda.set_device,
}
_NVTX: dict[str, Any] = {
    "range_push": lambda msg: 0,
    "range_pop": lambda: 0,
    "range_start": lambda msg: 0,
    "range_end": lambda range_id: None,
    "mark": lambda msg: None,
}
_CLASSES_REFUSED = {"CUDAPluggableAllocator", "GreenContext", "Graph", "MemPool"}
_NEED_NO_DEVICE = {"check_error", "get_allocator_backend", "get_arch_list", "get_gencode_flags"}


def _refuse(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def refuse(*_: Any, **__: Any) -> None:
        raise not_simulated(
            expected="a function that it has", got=name, remedy="test what needs it on a real GPU"
        )

    return refuse


def _refuse_init() -> None:
    """Stands for `torch.cuda._lazy_init`, with which torch starts the driver."""
    raise not_simulated(
        expected="CUDA to be used by a model, while the harness runs its code",
        got=f"a use in {sys._getframe(1).f_code.co_name}",
        remedy="let the model do it, or make the tensor on the CPU",
    )


def _refuse_class(name: str) -> type:
    return type(name.rpartition(".")[2], (), {"__new__": _refuse(name, object.__new__)})


def _table_for(module: ModuleType, known: dict[str, Any]) -> dict[str, Any]:
    """Return what replaces the public functions of a module: what is simulated, and refusals for the rest."""
    table = {name: value for name, value in known.items() if hasattr(module, name)}
    for name in getattr(module, "__all__", ()):
        original, full_name = getattr(module, name, None), f"{module.__name__}.{name}"
        if name in table or name in _NEED_NO_DEVICE or not callable(original):
            continue
        if name in _CLASSES_REFUSED:
            table[name] = _refuse_class(full_name)
        elif not isinstance(original, type):
            table[name] = _refuse(full_name, original)
    return table


class _Generator(torch.Generator):
    """Stands for `torch.Generator`: a generator of CUDA is one of the host, where elements are computed."""

    def __new__(cls, device: Any = "cpu") -> Any:
        host: Any = super()
        return host.__new__(cls, device="cpu" if torch.device(device).type == "cuda" else device)


def _start_of(machine: Machine) -> Any:
    """Wrap `Thread.start`: a thread that a model starts uses the devices on behalf of its process."""
    original = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        process, run = machine.process, thread.run

        def entered() -> None:
            with _modes.entered(machine, process):
                run()

        if process is not None:
            thread.run = entered  # type: ignore[method-assign]  # for this thread alone
        original(thread)

    return start


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Make attention use plain operations: to choose another kernel, torch would ask the device."""
    backends = torch.backends.cuda
    names = [name for name in ("flash", "mem_efficient", "cudnn") if hasattr(backends, f"enable_{name}_sdp")]
    before = {name: getattr(backends, f"{name}_sdp_enabled")() for name in names}
    for name in names:
        getattr(backends, f"enable_{name}_sdp")(False)
    try:
        yield
    finally:
        for name, is_enabled in before.items():
            getattr(backends, f"enable_{name}_sdp")(is_enabled)


@contextlib.contextmanager
def patched_torch(machine: Machine) -> Iterator[None]:
    """Put a machine in place of torch's CUDA, for the whole Python process."""
    cuda = torch.cuda
    dlpack: Any = torch.utils.dlpack
    give, take = _exchange.to_dlpack(dlpack.to_dlpack), _exchange.from_dlpack(dlpack.from_dlpack)
    restore = _files.restore_location(torch.serialization.default_restore_location)
    tag = _files.location_tag(torch.serialization.location_tag)
    was_swapping = torch.__future__.get_swap_module_params_on_conversion()
    tables: list[tuple[Any, dict[str, Any]]] = [
        (cuda, {**_table_for(cuda, _CUDA), "_lazy_init": _refuse_init}),
        *[(module, _table_for(module, _CUDA)) for module in (cuda.memory, cuda.streams, cuda.random)],
        (cuda.nvtx, {name: value for name, value in _NVTX.items() if hasattr(cuda.nvtx, name)}),
        (dlpack, {"to_dlpack": give, "from_dlpack": take}),
        (torch, {"to_dlpack": give, "from_dlpack": take}),
        (torch, {"range": _modes.from_data(torch.range)}),
        (torch, {"compile": _refuse("torch.compile", torch.compile), "Generator": _Generator}),
        (torch.autograd, {"backward": _refuse("torch.autograd.backward", torch.autograd.backward)}),
        (torch.serialization, {"default_restore_location": restore, "location_tag": tag}),
        (torch.jit, {"load": _scripts.load_script(torch.jit.load)}),
        (torch._utils, {"_rebuild_tensor": _files.rebuild_tensor(torch._utils._rebuild_tensor)}),
        (torch.UntypedStorage, {"cuda": _files.to_device}),
        (threading.Thread, {"start": _start_of(machine)}),
    ]
    if hasattr(torch, "accelerator"):
        tables.append((torch.accelerator, _table_for(torch.accelerator, _ACCELERATOR)))
    with contextlib.ExitStack() as stack:
        script: Any = torch.jit._script.RecursiveScriptModule
        # `create`: script modules inherit `_apply`, and get one of their own for a while.
        stack.enter_context(mock.patch.object(script, "_apply", _scripts.apply_to_script, create=True))
        for place, table in tables:
            stack.enter_context(mock.patch.multiple(place, **table))
        # A parameter that is moved to a device stays the same object, as on CUDA.
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, was_swapping)
        # The operations of cuDNN and the kernels for attention exist on CUDA only.
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(_plain_attention())
        yield
