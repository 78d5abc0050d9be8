"""The stubs of a server: the processes that run its models' code."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from kindaware._server.keeper import list_children

_PROGRAM = "triton_python_backend_stub"
_EXIT_CODE = 49
"""Of the fields of /proc/PID/stat after the name, that with the status; see proc(5)."""
_INSTANCE = re.compile(r"(?P<model>.+)_\d+_\d+")
"""The name of an instance whose group the server has named."""


@dataclass(frozen=True)
class Stub:
    """A living stub.

    Attributes:
        pid: of the process.
        file: the model.py that it runs.
        instance: its instance's name; that of the model while it completes a configuration.
    """

    pid: int
    file: Path
    instance: str

    def owner(self, models: Collection[str]) -> str | None:
        """Return the model that it belongs to, or None where that can't be told.

        A model from object storage lies in a folder of another name; then the instance's name tells, unless
        the configuration names the group.
        """
        parts = self.file.parts
        if len(parts) > 2 and parts[-3] in models:
            return parts[-3]
        named = _INSTANCE.fullmatch(self.instance)
        return named["model"] if named is not None and named["model"] in models else None


def read_stub(pid: int) -> Stub | None:
    """Return the stub that a process is; None for another, or for one that has ended.

    Its arguments are: model.py, the name and two sizes of its shared memory, the server's pid, the backend's
    folder, a handle, the instance's name, and a folder. Source: python_backend `stub_launcher.cc`.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    if os.path.basename(words[0]) != _PROGRAM or len(words) < 10:
        return None
    return Stub(pid, Path(words[1]), words[8])


def is_running(pid: int) -> bool:
    """Return whether a process has not ended."""
    try:
        return _read_stat(pid)[0] not in "ZX"
    except OSError:
        return False


def describe_end(pid: int) -> str:
    """Return how a process ended that nobody has waited for; empty where that can't be told."""
    try:
        fields = _read_stat(pid)
        status = int(fields[_EXIT_CODE])
    except (OSError, IndexError, ValueError):
        return ""
    if fields[0] not in "ZX":
        return ""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if not number:
        return f"with status {os.WEXITSTATUS(status)}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(number).name
        return f"by {name}" + (", as the system does when memory runs out" if name == "SIGKILL" else "")
    return f"by signal {number}"


def _read_stat(pid: int) -> list[str]:
    """Return the fields of a process's status after its name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class StubTable:
    """The living stubs of one server, and a wait for the end of one.

    Args:
        server: its process id.

    Attributes:
        ends: how each stub ended that has, by its pid, where that is known.
    """

    def __init__(self, server: int) -> None:
        self.ends: dict[int, str] = {}
        self._server = server
        self._known: dict[int, tuple[Stub, int]] = {}
        self._poll = select.poll()
        self._waker, self._wakes = os.pipe()
        self._poll.register(self._waker, select.POLLIN)

    def look(self) -> list[Stub]:
        """Return the stubs that live now."""
        alive = {pid for pid, state in list_children(self._server).items() if state not in "ZX"}
        # One that has ended may have given its id to another already.
        for pid in {*self._ended(), *(self._known.keys() - alive)}:
            self.ends[pid] = describe_end(pid)
            self._forget(pid)
        for pid in alive - self._known.keys():
            stub = read_stub(pid)
            # Between fork and exec a child has the server's own command line: it is met again.
            if stub is not None:
                with contextlib.suppress(ProcessLookupError):
                    handle = os.pidfd_open(pid)
                    self._known[pid] = stub, handle
                    self._poll.register(handle, select.POLLIN)
        return [stub for stub, _ in self._known.values()]

    def wait(self, seconds: float) -> None:
        """Wait until a stub of the last look ends, `wake` is called, or the time is over."""
        self._poll.poll(seconds * 1000)

    def wake(self) -> None:
        """End `wait`, and every later one."""
        os.write(self._wakes, b"w")

    def close(self) -> None:
        """Give the system's handles back."""
        for pid in list(self._known):
            self._forget(pid)
        os.close(self._waker)
        os.close(self._wakes)

    def _ended(self) -> list[int]:
        handles = {handle for handle, _ in self._poll.poll(0)}
        return [pid for pid, (_, handle) in self._known.items() if handle in handles]

    def _forget(self, pid: int) -> None:
        _, handle = self._known.pop(pid)
        self._poll.unregister(handle)
        os.close(handle)
