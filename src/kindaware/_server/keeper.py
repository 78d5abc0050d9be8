"""The process between us and the server: it outlives us, if only to stop the server and to clean up.

It is run as a script, knows the standard library only, and has one thread when it starts the server, so that
the code between fork and exec is safe. It is told what to do in lines of JSON and text on its standard input,
and answers in JSON:

    -> {"command": [...], "environment": {...}, "parent": pid, "log": path, ...}
    <- {"pid": pid of the server}
    -> within SECONDS   how long that may take, in place of the job's `stop_seconds`
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
import re
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
SHARED_MEMORY = Path("/dev/shm")
POLL_SECONDS = 0.1
ORPHANED_STOP_SECONDS = 10.0
LOG_END_SECONDS = 5.0

RECORD_HEADER = r"(?:[EWIV]\d{4} [\d:.]+ +|\d{4}-\d\d-\d\dT[\d:.]+Z [EWIV] )\d+ [^\s\]]+\] "
"""How an entry of the server's log begins, in either of its formats."""
CONTINUATION = "    "
"""How the further lines of an entry begin: no text of a client can pass for an entry of its own."""
_ESCAPED_RECORD = re.compile(rf'({RECORD_HEADER})"(.*\\n.*)"'.encode())
_RECORD_BEGINNING = re.compile(rb"[EWIV]\d{4} |[EWIV]\d{0,4}$|\d{4}-\d\d-\d\dT|[\d-]{1,10}$")
_ESCAPE = re.compile(rb'\\([nt"\\/])')
_UNESCAPED = {b"n": b"\n", b"t": b"\t"}


class Keeper:
    """Starts one server, and ends it with everything that it started.

    Args:
        job: what the parent wrote: `command`, `environment`, `parent` (its pid), `log` (a path),
            `shared_memory_prefix`, `directory` (removed at the end), `orphans` (removed if the parent is
            gone), `stop_seconds`.
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
            log = open(self.job["log"], "ab", buffering=0)  # noqa: SIM115  # the thread closes it
            server = subprocess.Popen(
                self.job["command"],
                env=self.job["environment"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                preexec_fn=self._before_exec,  # noqa: PLW1509  # this process has one thread
            )
        except OSError as error:
            self._answer({"error": str(error)})
        else:
            writer = threading.Thread(target=copy_log, args=(server.stdout, log), daemon=True)
            writer.start()
            self._answer({"pid": server.pid})
            while server.poll() is None and not self._must_end("stop"):
                self._listen()
            self._end(server)
            writer.join(LOG_END_SECONDS)
            self._answer({"returncode": server.returncode})
        while not self._must_end("clean"):
            self._listen()
        shutil.rmtree(self.job["directory"], ignore_errors=True)
        if self._is_orphan():
            for path in self.job["orphans"]:
                shutil.rmtree(path, ignore_errors=True)

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
            limit = self._stop_seconds()
            try:
                server.wait(min(limit, ORPHANED_STOP_SECONDS) if self._is_orphan() else limit)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        _kill_children()
        remove_regions(self.job["shared_memory_prefix"])

    def _stop_seconds(self) -> float:
        """Return how long a clean end may take."""
        if "within" in self.orders:
            return float(self.orders[self.orders.index("within") + 1])
        return float(self.job["stop_seconds"])


class LogLines:
    """Spreads entries of the server's log over several lines where their text has line ends.

    The server writes a text with line ends as a JSON string on one line.
    """

    def __init__(self) -> None:
        self._held = b""
        self._is_inside = False

    def feed(self, data: bytes) -> bytes:
        """Return what can be written by now; the beginning of an entry is held until its line has ended."""
        lines = (self._held + data).split(b"\n")
        self._held = lines.pop()
        written = b""
        for line in lines:
            written += (line if self._is_inside else spread(line)) + b"\n"
            self._is_inside = False
        # A progress bar is a line that does not end for long.
        if self._held and (self._is_inside or not _RECORD_BEGINNING.match(self._held)):
            written, self._held, self._is_inside = written + self._held, b"", True
        return written

    def end(self) -> bytes:
        """Return what was held back."""
        return self._held


def spread(line: bytes) -> bytes:
    """Return an entry whose text has escaped line ends over several lines; any other line as it is.

    Other control characters stay escaped: they would reach a terminal.
    """
    match = _ESCAPED_RECORD.fullmatch(line)
    if match is None:
        return line
    text = _ESCAPE.sub(lambda escape: _UNESCAPED.get(escape[1], escape[1]), match[2])
    return match[1] + text.rstrip(b"\n").replace(b"\n", b"\n" + CONTINUATION.encode())


def copy_log(source: IO[bytes], log: IO[bytes]) -> None:
    """Copy what a server prints to its log, until every process that can print has ended."""
    lines = LogLines()
    with log:
        while data := source.read(65536):
            with contextlib.suppress(OSError):  # a full disk must not block the server
                log.write(lines.feed(data))
        with contextlib.suppress(OSError):
            log.write(lines.end())


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
