"""The setting `wait_policy`: torch's threads on the CPU sleep while they wait, and don't spin.

Between two operations the threads of GNU OpenMP spin for milliseconds before they sleep. Where the cores have
other work, the server's and its clients' to begin with, a thread that spins holds up the one that it waits
for. `OMP_WAIT_POLICY=PASSIVE` ends that, but is read once, when torch is loaded; a model.py comes too late.

There is one more way. With more OpenMP threads than cores in a process, GNU OpenMP gives up spinning almost
at once. So a team of threads is made that has nothing to do, and sleeps until the process ends.
Source: libgomp's manual, GOMP_SPINCOUNT; measured with torch 2.15.0.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping
from pathlib import Path

from kindaware._errors import ConfigError

MAX_SLEEPERS = 64
"""A process gets no more threads than these for it: hosts and containers limit how many there may be."""

_started: set[str] = set()


def stop_spinning(num_threads: int, environment: Mapping[str, str]) -> None:
    """Let OpenMP's threads sleep while they wait, for as long as the process lives.

    Does nothing for one thread, or where the environment asks for the same.

    Args:
        num_threads: threads of one operation.
        environment: OMP_WAIT_POLICY and GOMP_SPINCOUNT are looked for in it.

    Raises:
        ConfigError: it can't be done here.
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
        num_sleepers = library.omp_get_num_procs() - num_threads + 2  # one above the cores, with torch's own
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
    """Give the files of GNU OpenMP that this process has loaded."""
    try:
        lines = maps.read_text().splitlines()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[5] for line in lines if "/libgomp" in line}
    return sorted(path for path in paths if Path(path).name.startswith("libgomp"))


def _start_team(library: ctypes.CDLL, num_threads: int) -> None:
    """Make a team of OpenMP threads that have nothing to do, on a thread of its own that keeps them."""
    library.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    library.GOMP_parallel.restype = None
    do_nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)  # free(NULL), the end of which is C
    is_there = threading.Event()

    def keep() -> None:
        library.GOMP_parallel(do_nothing, None, num_threads, 0)
        is_there.set()
        threading.Event().wait()

    threading.Thread(target=keep, name="kindaware-openmp", daemon=True).start()
    is_there.wait()
