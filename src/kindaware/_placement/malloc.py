"""The setting `keep_memory`: memory that one forward on the CPU frees is reused by the next.

glibc returns a large block to the kernel as soon as it is freed. The next forward then gets new pages, and
the kernel zeroes each of them on first write, 4 KiB at a time: a third of the run time of some convolutional
networks. So the process keeps freed memory, and torch requests pages of 2 MiB.
Source: glibc's manual, Malloc Tunable Parameters; torch's `c10/core/impl/alloc_cpu.cpp`; measured with torch
2.15.0 and glibc 2.36.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, MutableMapping

from kindaware._errors import ConfigError

# Parameters of mallopt, from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = -1

TUNED_BY = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
"""Environment variables by which an operator tunes malloc; they override `auto`."""

_TUNABLES = "GLIBC_TUNABLES"
_TUNED_IN = ("glibc.malloc.mmap_max", "glibc.malloc.mmap_threshold", "glibc.malloc.trim_threshold")

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""torch reads it at its first allocation, and then requests huge pages for blocks from 2 MiB on."""


def plan_malloc(setting: str, environment: MutableMapping[str, str]) -> Callable[[], None]:
    """Decide whether this process keeps the memory that it frees, and enable torch's huge pages if so.

    Args:
        setting: `on`, `off` to do nothing, or `auto` for `on` if malloc is glibc's and the environment
            doesn't tune it.
        environment: searched for variables that tune glibc's malloc; `THP_MEM_ALLOC_ENABLE` is set in it
            unless it is there.

    Returns:
        A function that makes the process keep the memory it frees from then on, for the rest of its life. To
        be called after the model is loaded: the memory of a checkpoint that was read should not be kept.

    Raises:
        ConfigError: the setting is `on`, and the C library has no `mallopt`.
    """
    # CDLL(None) is the process itself: mallopt is there with glibc and missing with musl.
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
    # Now and not in `keep`: torch reads it once, when it makes the first tensor.
    environment.setdefault(HUGE_PAGES, "1")

    def keep() -> None:
        # No block is mapped on its own, since unmapping it would return it; and the heap never shrinks.
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)

    return keep


def _is_tuned(environment: Mapping[str, str]) -> bool:
    if any(environment.get(name) for name in TUNED_BY):
        return True
    return any(name in environment.get(_TUNABLES, "") for name in _TUNED_IN)
