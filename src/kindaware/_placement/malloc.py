"""The setting `keep_memory`: what one forward on the CPU has freed, the next one gets again.

glibc gives a large block back to the system as soon as it is freed. The next forward then gets new pages, and
the system fills each of them with zeros when it is first written to, 4 KiB at a time: a third of the time of
some convolutional networks. So the process keeps what it has had, and torch asks for pages of 2 MiB.
Source: glibc's manual, Malloc Tunable Parameters; torch's `c10/core/impl/alloc_cpu.cpp`; measured with torch
2.15.0 and glibc 2.36.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, MutableMapping

from kindaware._errors import ConfigError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_NEVER = -1

TUNED_BY = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
"""Environment variables by which an operator has decided."""

_TUNABLES = "GLIBC_TUNABLES"
_TUNED_IN = ("glibc.malloc.mmap_max", "glibc.malloc.mmap_threshold", "glibc.malloc.trim_threshold")

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""torch reads it when it makes its first tensor; for blocks from 2 MiB on, where the kernel allows it."""


def plan_malloc(setting: str, environment: MutableMapping[str, str]) -> Callable[[], None]:
    """Decide whether this process keeps what it frees, and have torch ask for huge pages if so.

    Args:
        setting: `on`, `off` to do nothing, or `auto` for `on` where malloc is glibc's and the environment has
            not decided.
        environment: what tunes glibc's malloc is looked for in it; gets `THP_MEM_ALLOC_ENABLE`, unless it has
            one.

    Returns:
        A function that lets the process keep what is freed from then on, for as long as it lives. To be
        called when the model is loaded: a checkpoint that was read is not to be kept beside the model.

    Raises:
        ConfigError: it is `on`, and can't be done here.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if setting == "on" and mallopt is None:
        raise ConfigError.of(
            "setting 'keep_memory'",
            expected="a process with glibc's malloc",
            got="a C library whose malloc can't be told",
            remedy="set keep_memory to auto, and preload an allocator that keeps memory",
        )
    if setting == "off" or mallopt is None or (setting == "auto" and _is_tuned(environment)):
        return lambda: None
    environment.setdefault(HUGE_PAGES, "1")

    def keep() -> None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)

    return keep


def _is_tuned(environment: Mapping[str, str]) -> bool:
    if any(environment.get(name) for name in TUNED_BY):
        return True
    return any(name in environment.get(_TUNABLES, "") for name in _TUNED_IN)
