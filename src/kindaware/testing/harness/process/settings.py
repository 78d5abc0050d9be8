"""Process-wide settings of Python and torch that a model may change, and how they are put back."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple


class Setting(NamedTuple):
    """How one setting is read and written."""

    read: Callable[[], Any]
    write: Callable[[Any], Any]


def read_settings() -> dict[str, Any]:
    """Return the settings by name; torch's only once it is imported: before, its defaults are unknown."""
    return {name: setting.read() for name, setting in _settings().items()}


def restore_settings(settings: dict[str, Any]) -> None:
    """Put settings back."""
    known = _settings()
    for name, value in settings.items():
        if name in known and value is not None:
            known[name].write(value)


def _settings() -> dict[str, Setting]:
    torch = sys.modules.get("torch")
    is_loaded = torch is not None and hasattr(torch, "get_num_threads")
    return {**_of_python(), **(_of_torch(torch) if is_loaded else {})}


def _of_python() -> dict[str, Setting]:
    found = {
        "warnings": Setting(lambda: list(warnings.filters), _set_warning_filters),
        "excepthook": _attribute(sys, "excepthook"),
        "thread excepthook": _attribute(threading, "excepthook"),
        "umask": Setting(_umask, os.umask),
    }
    if threading.current_thread() is threading.main_thread():
        handled = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
        found |= {f"signal {one}": _signal(one) for one in handled if signal.getsignal(one) is not None}
    return found


def _of_torch(torch: Any) -> dict[str, Setting]:
    backends = torch.backends
    warns = torch.is_deterministic_algorithms_warn_only_enabled
    found = {
        "num_threads": Setting(torch.get_num_threads, torch.set_num_threads),
        "default_dtype": Setting(torch.get_default_dtype, torch.set_default_dtype),
        "grad_enabled": Setting(torch.is_grad_enabled, torch.set_grad_enabled),
        "deterministic": Setting(
            lambda: (torch.are_deterministic_algorithms_enabled(), warns()),
            lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
        ),
        "matmul precision": Setting(
            lambda: _unless_mixed(torch.get_float32_matmul_precision), torch.set_float32_matmul_precision
        ),
        "cuda.matmul.allow_tf32": _attribute(backends.cuda.matmul, "allow_tf32"),
        "mkldnn.enabled": _attribute(backends.mkldnn, "enabled"),
    }
    for name in ("enabled", "benchmark", "deterministic", "allow_tf32"):
        found[f"cudnn.{name}"] = _attribute(backends.cudnn, name)
    return found


def _attribute(owner: Any, name: str) -> Setting:
    return Setting(
        lambda: _unless_mixed(lambda: getattr(owner, name, None)), lambda value: setattr(owner, name, value)
    )


def _unless_mixed(read: Callable[[], Any]) -> Any:
    """Return None where torch refuses to read a precision that was set through two of its interfaces."""
    try:
        return read()
    except RuntimeError:
        return None


def _signal(number: int) -> Setting:
    return Setting(lambda: signal.getsignal(number), lambda value: signal.signal(number, value))


def _umask() -> int:
    """Read the mask; setting it is the only way to."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _set_warning_filters(filters: list[Any]) -> None:
    # The same list, and told to Python, which caches what it has matched with the filters.
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]
