"""The setting `wait_policy`: torch's CPU threads sleep while they wait, instead of spinning.

Between two operations the threads of GNU OpenMP spin for milliseconds before they sleep. If the cores have
other work, such as the server's and its clients', a spinning thread delays the very thread that it waits for.
`OMP_WAIT_POLICY=PASSIVE` prevents that, but it is read once, when torch is loaded, which is before model.py
runs.

There is another way. In a process with more OpenMP threads than cores, GNU OpenMP stops spinning almost at
once. So this module starts a team of idle threads, which sleep until the process ends.
Source: libgomp's manual, GOMP_SPINCOUNT; measured with torch 2.15.0.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping
from pathlib import Path

from kindaware._errors import ConfigError

MAX_SLEEPERS = 64
"""Maximum number of idle threads per process: hosts and containers limit the number of threads."""

_started: set[str] = set()
"""Paths of the libraries that have their team: once per process, however many instances ask."""


def stop_spinning(num_threads: int, environment: Mapping[str, str]) -> None:
    """Make OpenMP's threads sleep while they wait, for the rest of the process's life.

    Does nothing for a single thread, or if the environment has the same policy already.

    Args:
        num_threads: torch's intra-op threads.
        environment: searched for OMP_WAIT_POLICY and GOMP_SPINCOUNT.

    Raises:
        ConfigError: the environment sets another policy, torch uses another OpenMP than GNU's, or more than
            `MAX_SLEEPERS` threads would be needed.
    """
    if num_threads == 1 or environment.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE":
        return
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        if environment.get(name):
            raise _error(f"{name}={environment[name]} in the environment, which torch has read")
    libraries = loaded_libraries()
    if not libraries:
        raise _error("a torch with another OpenMP than GNU's")
    for path in libraries:
        library = ctypes.CDLL(path)
        # One thread more than cores in all; of the two teams, torch's and this, libgomp counts one less.
        num_sleepers = library.omp_get_num_procs() - num_threads + 2
        if num_sleepers > MAX_SLEEPERS:
            raise _error(f"a process that needs {num_sleepers} more threads, of {MAX_SLEEPERS} allowed")
        if path not in _started:
            _started.add(path)
            _start_team(library, max(2, num_sleepers))


def _error(got: str) -> ConfigError:
    return ConfigError.of(
        "setting 'wait_policy'",
        expected="threads of GNU OpenMP that can be made to sleep",
        got=got,
        remedy="start the server with OMP_WAIT_POLICY=PASSIVE in its environment instead",
    )


def loaded_libraries(maps: Path = Path("/proc/self/maps")) -> list[str]:
    """Return the paths of the GNU OpenMP libraries that this process has loaded."""
    try:
        lines = maps.read_text().splitlines()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[5] for line in lines if "/libgomp" in line}
    return sorted(path for path in paths if Path(path).name.startswith("libgomp"))


def _start_team(library: ctypes.CDLL, num_threads: int) -> None:
    """Start a team of idle OpenMP threads, on a thread of its own that keeps them alive."""
    # The entry point that compilers emit for `#pragma omp parallel`: function, its argument, threads, flags.
    library.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    library.GOMP_parallel.restype = None
    # free(NULL), a C function that does nothing: a Python callback would need the GIL on each thread.
    do_nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)
    is_started = threading.Event()

    def keep() -> None:
        library.GOMP_parallel(do_nothing, None, num_threads, 0)
        is_started.set()
        # The team belongs to this thread and ends with it, so the thread never returns.
        threading.Event().wait()

    threading.Thread(target=keep, name="kindaware-openmp", daemon=True).start()
    is_started.wait()
