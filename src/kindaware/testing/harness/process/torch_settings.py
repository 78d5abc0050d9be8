"""Settings of torch that a model may change."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from kindaware.testing.harness.process.setting import Setting, attribute, contents

_BACKENDS = {
    "cuda.matmul": (
        "allow_tf32",
        "allow_fp16_reduced_precision_reduction",
        "allow_bf16_reduced_precision_reduction",
    ),
    "cudnn": ("enabled", "benchmark", "benchmark_limit", "deterministic", "allow_tf32"),
    "mkldnn": ("enabled", "deterministic", "allow_tf32"),
    "opt_einsum": ("enabled", "strategy"),
    "quantized": ("engine",),
}
_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
    "_global_module_registration_hooks",
    "_global_buffer_registration_hooks",
    "_global_parameter_registration_hooks",
)
_SMALL = 1e-310
_INDUCTOR = "torch._inductor.config"


def settings_of_torch(torch: Any) -> dict[str, Setting]:
    """Return the settings by name."""
    return {**_of_computation(torch), **_of_backends(torch), **_of_library(torch)}


def _read_freezing() -> bool:
    # Only where it is imported: that takes a second.
    return bool(getattr(sys.modules.get(_INDUCTOR), "freezing", False))


def _write_freezing(value: bool) -> None:
    sys.modules[_INDUCTOR].freezing = value  # type: ignore[attr-defined]


def _of_computation(torch: Any) -> dict[str, Setting]:
    warns = torch.is_deterministic_algorithms_warn_only_enabled
    check_nan = getattr(torch, "is_anomaly_check_nan_enabled", lambda: True)
    found = {
        "torch.set_num_threads": Setting(torch.get_num_threads, torch.set_num_threads),
        "torch.set_num_interop_threads": Setting(torch.get_num_interop_threads, _refuse),
        "torch.set_default_dtype": Setting(torch.get_default_dtype, torch.set_default_dtype),
        "torch.set_default_device": Setting(
            lambda: _read_default_device(torch), torch.set_default_device, is_of_thread=True
        ),
        "torch.set_grad_enabled": Setting(torch.is_grad_enabled, torch.set_grad_enabled, is_of_thread=True),
        "torch.set_flush_denormal": Setting(
            lambda: _SMALL * 0.5 == 0.0, torch.set_flush_denormal, is_of_thread=True
        ),
        "torch.use_deterministic_algorithms": Setting(
            lambda: (torch.are_deterministic_algorithms_enabled(), warns()),
            lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
        ),
        "torch.utils.deterministic.fill_uninitialized_memory": attribute(
            getattr(torch.utils, "deterministic", None), "fill_uninitialized_memory"
        ),
        "torch.autograd.set_detect_anomaly": Setting(
            lambda: (torch.is_anomaly_enabled(), check_nan()),
            lambda value: torch.autograd.set_detect_anomaly(*value),
        ),
        "torch.set_float32_matmul_precision": Setting(
            _unless_mixed(torch.get_float32_matmul_precision),
            torch.set_float32_matmul_precision,
            may_be_none=False,
        ),
        f"{_INDUCTOR}.freezing": Setting(_read_freezing, _write_freezing),
        "torch.set_autocast_cache_enabled": Setting(
            torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled, is_of_thread=True
        ),
    }
    for device in ("cpu", "cuda"):
        found[f"torch.set_autocast_enabled({device!r})"] = _autocast(torch, device)
    return found


def _autocast(torch: Any, device: str) -> Setting:
    def write(value: tuple[bool, Any]) -> None:
        torch.set_autocast_enabled(device, value[0])
        torch.set_autocast_dtype(device, value[1])

    return Setting(
        lambda: (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)),
        write,
        is_of_thread=True,
    )


def _of_backends(torch: Any) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for path, names in _BACKENDS.items():
        owner = torch.backends
        for part in path.split("."):
            owner = getattr(owner, part, None)
        found |= {
            f"torch.backends.{path}.{name}": _backend(owner, name) for name in names if hasattr(owner, name)
        }
    for name in ("flash", "mem_efficient", "math", "cudnn"):
        switch = getattr(torch.backends.cuda, f"enable_{name}_sdp", None)
        if switch is not None:
            found[f"torch.backends.cuda.enable_{name}_sdp"] = Setting(
                getattr(torch.backends.cuda, f"{name}_sdp_enabled"), switch
            )
    if hasattr(torch.backends, "mha"):
        mha = torch.backends.mha
        found["torch.backends.mha.set_fastpath_enabled"] = Setting(
            mha.get_fastpath_enabled, mha.set_fastpath_enabled
        )
    return found


def _backend(owner: Any, name: str) -> Setting:
    return Setting(
        _unless_mixed(lambda: getattr(owner, name)),
        lambda value: setattr(owner, name, value),
        may_be_none=False,
    )


def _of_library(torch: Any) -> dict[str, Setting]:
    options = vars(torch._tensor_str.PRINT_OPTS)
    modules, serialization = torch.nn.modules.module, torch.serialization
    found = {
        "torch.set_printoptions": contents(options),
        "torch.set_warn_always": Setting(torch.is_warn_always_enabled, torch.set_warn_always),
        "torch.hub.set_dir": attribute(torch.hub, "_hub_dir"),
        "torch.__future__.set_overwrite_module_params_on_conversion": Setting(
            torch.__future__.get_overwrite_module_params_on_conversion,
            torch.__future__.set_overwrite_module_params_on_conversion,
        ),
        "torch.multiprocessing.set_sharing_strategy": Setting(
            torch.multiprocessing.get_sharing_strategy, torch.multiprocessing.set_sharing_strategy
        ),
    }
    if hasattr(serialization, "get_safe_globals"):
        found["torch.serialization.add_safe_globals"] = Setting(
            lambda: set(serialization.get_safe_globals()),
            lambda value: (serialization.clear_safe_globals(), serialization.add_safe_globals(list(value))),
        )
    for name in _HOOKS:
        if hasattr(modules, name):
            found[f"hooks of all modules, {name}"] = contents(getattr(modules, name))
    return found


def _read_default_device(torch: Any) -> Any:
    """Return the device, or None where none was set."""
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else context.device


def _unless_mixed(read: Callable[[], Any]) -> Callable[[], Any]:
    """Return None where torch refuses to read a precision that was set through two of its interfaces."""

    def read_or_none() -> Any:
        try:
            return read()
        except RuntimeError:
            return None

    return read_or_none


def _refuse(value: Any) -> None:
    raise RuntimeError("torch sets it once")
