"""The server's processes: which stub serves which model, and what memory and file descriptors each has."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            parts = [part for argument in command[1:3] for part in argument.split("/")]
            named = [model for model in models if model in parts]
            if named and state != "Z":
                found[pid] = named[0]
    return found


def sample(server_pid: int, models: Sequence[str], second: float) -> list[Sample]:
    """Return a sample of the server and of each stub."""
    processes = {server_pid: SERVER, **list_stubs(server_pid, models)}
    samples = []
    for pid, name in processes.items():
        # It may have ended since.
        with contextlib.suppress(OSError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            num_fds = len(os.listdir(f"/proc/{pid}/fd"))
            samples.append(Sample(second, name, pid, pages * _PAGE_BYTES, num_fds))
    return samples
