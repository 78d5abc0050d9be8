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
from dataclasses import dataclass

from kindaware._errors import ConfigError

# Parameters of mallopt, from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = -1

TUNED_BY = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
"""Environment variables by which an operator tunes malloc; they override `auto`."""

_ARENAS, _ARENAS_TUNABLE = "MALLOC_ARENA_MAX", "glibc.malloc.arena_max"
_TUNABLES = "GLIBC_TUNABLES"
_TUNED_IN = ("glibc.malloc.mmap_max", "glibc.malloc.mmap_threshold", "glibc.malloc.trim_threshold")

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""torch reads it at its first allocation, and then requests huge pages for blocks from 2 MiB on."""


@dataclass(frozen=True, slots=True)
class Malloc:
    """How this process is to allocate memory.

    Attributes:
        mallopt: of glibc; None to leave malloc alone.
        has_own_arenas: whether the operator has set the number of arenas.
    """

    mallopt: Callable[[int, int], int] | None
    has_own_arenas: bool

    def keep(self) -> None:
        """Make the process keep the memory it frees from now on, for the rest of its life."""
        if self.mallopt is not None:
            # No block is mapped on its own, since unmapping it would return it; and the heap never shrinks.
            self.mallopt(_M_MMAP_MAX, 0)
            self.mallopt(_M_TRIM_THRESHOLD, _NEVER)

    def share_arena(self) -> None:
        """Make threads that start from now on allocate where the main thread does.

        glibc gives each thread an arena of heaps of 64 MiB, and unmaps a heap that is empty, whatever its
        parameters say. Without this, a hook on another thread gets new pages for each large block.
        Source: glibc, `malloc/arena.c`, heap_trim.
        """
        if self.mallopt is not None and not self.has_own_arenas:
            self.mallopt(_M_ARENA_MAX, 1)


def plan_malloc(setting: str, environment: MutableMapping[str, str]) -> Malloc:
    """Decide whether this process keeps the memory that it frees, and enable torch's huge pages if so.

    Args:
        setting: `on`, `off` to do nothing, or `auto` for `on` if malloc is glibc's and the environment
            doesn't tune it.
        environment: searched for variables that tune glibc's malloc; `THP_MEM_ALLOC_ENABLE` is set in it
            unless it is there.

    Returns:
        What does so. `keep` is to be called after the model is loaded: the memory of a checkpoint that was
        read should not be kept.

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
        return Malloc(None, has_own_arenas=False)
    # Now and not in `keep`: torch reads it once, when it makes the first tensor.
    environment.setdefault(HUGE_PAGES, "1")
    has_own_arenas = bool(environment.get(_ARENAS)) or _ARENAS_TUNABLE in environment.get(_TUNABLES, "")
    return Malloc(mallopt, has_own_arenas)


def _is_tuned(environment: Mapping[str, str]) -> bool:
    if any(environment.get(name) for name in TUNED_BY):
        return True
    return any(name in environment.get(_TUNABLES, "") for name in _TUNED_IN)
