"""The process between us and the server: it outlives us, if only to stop the server and to clean up.

It is run as a script, knows the standard library only, and has one thread, so that the code between fork and
exec is safe. It is told what to do in lines of JSON and text on its standard input, and answers in JSON:

    -> {"command": [...], "environment": {...}, "parent": pid, "log": path, ...}
    <- {"pid": pid of the server}
    -> stop             the server is asked to end, then made to; also when the parent is gone
    <- {"returncode": n}
    -> clean            the directory is removed, and the keeper ends
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
SHARED_MEMORY = Path("/dev/shm")
POLL_SECONDS = 0.1
ORPHANED_STOP_SECONDS = 10.0


class Keeper:
    """Starts one server, and ends it with everything that it started.

    Args:
        job: what the parent wrote: `command`, `environment`, `parent` (its pid), `log` (a path),
            `shared_memory_prefix`, `directory` (removed at the end), `stop_seconds`.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.orders: list[str] = []
        self.signalled = False
        self.prctl: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl

    def run(self) -> None:
        """Start the server, wait for its end or an order to end it, and clean up."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note_signal)
        self.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            with open(self.job["log"], "ab") as log:
                server = subprocess.Popen(
                    self.job["command"],
                    env=self.job["environment"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=self._before_exec,  # noqa: PLW1509  # this process has one thread
                )
        except OSError as error:
            self._answer({"error": str(error)})
        else:
            self._answer({"pid": server.pid})
            while server.poll() is None and not self._must_end("stop"):
                self._listen()
            self._end(server)
            self._answer({"returncode": server.returncode})
        while not self._must_end("clean"):
            self._listen()
        shutil.rmtree(self.job["directory"], ignore_errors=True)

    def _before_exec(self) -> None:
        """In the server's process: die with the keeper, and take signals as a fresh process does."""
        self.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def _note_signal(self, number: int, frame: object) -> None:
        self.signalled = True

    def _must_end(self, order: str) -> bool:
        return order in self.orders or self.signalled or self._is_orphan()

    def _is_orphan(self) -> bool:
        return os.getppid() != int(self.job["parent"])

    def _listen(self) -> None:
        """Take what the parent wrote; waits at most `POLL_SECONDS`."""
        if "gone" in self.orders:
            time.sleep(POLL_SECONDS)
            return
        if select.select([0], [], [], POLL_SECONDS)[0]:
            text = os.read(0, 4096).decode()
            self.orders += text.split() if text else ["gone"]

    def _answer(self, value: dict[str, object]) -> None:
        """Write one line to the parent, which may be gone."""
        with contextlib.suppress(OSError):
            os.write(1, json.dumps(value).encode() + b"\n")

    def _end(self, server: subprocess.Popen[bytes]) -> None:
        """End the server and everything it started; waits for its clean end, then kills what is left."""
        if server.poll() is None:
            server.terminate()
            limit = self.job["stop_seconds"]
            try:
                server.wait(min(limit, ORPHANED_STOP_SECONDS) if self._is_orphan() else limit)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        _kill_children()
        remove_regions(self.job["shared_memory_prefix"])


def remove_regions(prefix: str) -> None:
    """Remove what a killed server has left in shared memory."""
    if SHARED_MEMORY.is_dir():
        for region in SHARED_MEMORY.glob(f"{prefix}*"):
            region.unlink(missing_ok=True)


def _kill_children(limit_seconds: float = 5.0) -> None:
    """Kill the stubs that a dead server left: this process has inherited them, and theirs after them."""
    deadline = time.monotonic() + limit_seconds
    while time.monotonic() < deadline:
        children = list_children(os.getpid())
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not children:
            return
        time.sleep(0.01)


def list_children(parent: int) -> dict[int, str]:
    """Return the state of each child of a process by its pid; `Z` has ended and was not waited for."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name, in parentheses, may hold anything: the fields begin after the last one.
                state, ppid = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(ppid) == parent:
                    children[int(entry.name)] = state
    return children


if __name__ == "__main__":
    Keeper(json.loads(io.FileIO(0, closefd=False).readline())).run()
