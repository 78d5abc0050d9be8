"""State of the process that a model may change: how each is read, and how it is put back."""

from __future__ import annotations

import functools
import sys
import threading
from typing import Any

from kindaware.testing.harness.process.numpy_settings import settings_of_numpy
from kindaware.testing.harness.process.python_settings import settings_of_python
from kindaware.testing.harness.process.setting import Setting
from kindaware.testing.harness.process.torch_settings import settings_of_torch


def read_settings() -> dict[str, Any]:
    """Return the settings by name; a library's only once it is imported: before, its defaults are unknown."""
    return {name: setting.read() for name, setting in _settings().items()}


def restore_settings(settings: dict[str, Any]) -> list[str]:
    """Put settings back.

    Returns:
        Names of those that can't be put back.
    """
    known = _settings()
    return [name for name, value in settings.items() if name in known and not _restore(known[name], value)]


def _restore(setting: Setting, value: Any) -> bool:
    """Return whether a setting is as it was."""
    try:
        if setting.read() != value and (value is not None or setting.may_be_none):
            setting.write(value)
        return bool(setting.read() == value) or not setting.may_be_none
    except Exception:  # what its library or the system raises where it refuses
        return False


def _settings() -> dict[str, Setting]:
    found = _table(sys.modules.get("torch"), sys.modules.get("numpy"))
    if threading.current_thread() is threading.main_thread():
        return found
    # A thread has its own, which end with it.
    return {name: one for name, one in found.items() if not one.is_of_thread}


@functools.lru_cache
def _table(torch: Any, numpy: Any) -> dict[str, Setting]:
    found = settings_of_python()
    # Libraries that are there, and not only on their way in.
    if hasattr(numpy, "seterr"):
        found |= settings_of_numpy(numpy)
    if hasattr(torch, "get_num_threads"):
        found |= settings_of_torch(torch)
    return found
