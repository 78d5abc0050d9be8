"""The server's processes: which stub serves which model, and what memory and file descriptors each has."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kindaware._server.healing.stubs import read_stub
from kindaware._server.keeper import list_children

SERVER = "tritonserver"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sample:
    """One process at one time.

    Attributes:
        second: since the start of the run.
        name: `tritonserver`, or the stub's model.
        pid: of the process.
        memory_bytes: resident memory.
        num_fds: open file descriptors.
    """

    second: float
    name: str
    pid: int
    memory_bytes: int
    num_fds: int


def list_stubs(server_pid: int, models: Sequence[str]) -> dict[int, str]:
    """Return the model of each living stub, by process id."""
    found = {}
    for pid, state in list_children(server_pid).items():
        stub = read_stub(pid) if state not in "ZX" else None
        owner = None if stub is None else stub.owner(models)
        if owner is not None:
            found[pid] = owner
    return found


def newest_stub(server_pid: int, models: Sequence[str], model: str) -> int:
    """Return the process of a model that was started last; another serves what it had before a reload."""
    mine = [pid for pid, name in list_stubs(server_pid, models).items() if name == model]
    return max(mine, key=_started)


def _started(pid: int) -> int:
    """Return when a process started, in ticks; see proc(5). Process ids are given out again."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0


def sample(server_pid: int, models: Sequence[str], second: float) -> list[Sample]:
    """Return a sample of the server and of each stub."""
    processes = {server_pid: SERVER, **list_stubs(server_pid, models)}
    samples = []
    for pid, name in processes.items():
        # It may have ended since.
        with contextlib.suppress(OSError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            num_fds = len(os.listdir(f"/proc/{pid}/fd"))
            # One that ends has no memory any more.
            if pages:
                samples.append(Sample(second, name, pid, pages * _PAGE_BYTES, num_fds))
    return samples
