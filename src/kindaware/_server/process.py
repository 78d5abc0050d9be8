"""The server's process, seen through its keeper."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kindaware._server import keeper as _keeper
from kindaware._server.command import Launch
from kindaware._server.failure import ServerError

_MARGIN_SECONDS = 15.0
"""What a keeper may need beyond the time that it allows the server."""


class ServerProcess:
    """A running server that ends, with all it started, when `end` is called or this process is gone.

    The keeper is a session leader of its own: a Ctrl-C in the terminal reaches us, and we stop the server.

    Args:
        launch: what to start.
        directory: removed at the end.
        log_path: what the server prints is appended to it.
        stop_seconds: how long the server may take to end cleanly before it is killed.
        orphans: directories of this process's own, removed for it if it is killed.

    Raises:
        ServerError: the executable does not start.
    """

    def __init__(
        self,
        launch: Launch,
        *,
        directory: Path,
        log_path: Path,
        stop_seconds: float,
        orphans: Sequence[Path] = (),
    ) -> None:
        self._owner = os.getpid()
        self._directory = directory
        self._shared_memory_prefix = launch.shared_memory_prefix
        self._stop_seconds = stop_seconds
        self._unread = b""
        self.returncode: int | None = None
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", _keeper.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        job = {
            "command": launch.command,
            "environment": dict(launch.environment),
            "parent": self._owner,
            "log": str(log_path),
            "shared_memory_prefix": launch.shared_memory_prefix,
            "directory": str(directory),
            "orphans": [str(path) for path in orphans],
            "stop_seconds": stop_seconds,
        }
        self._write(json.dumps(job))
        answer = self._read(_MARGIN_SECONDS) or {"error": "its keeper did not answer"}
        if "pid" not in answer:
            self._finish()
            raise ServerError.of(
                f"tritonserver {launch.command[0]}",
                expected="a program that starts",
                got=str(answer["error"]),
                remedy="check that it is built for this machine",
            )
        self.pid = int(answer["pid"])

    def poll(self) -> int | None:
        """Return the exit status of the server, or None while it runs."""
        if self.returncode is None:
            answer = self._read(0)
            if answer is not None:
                self.returncode = int(answer.get("returncode", -9))
        return self.returncode

    def end(self, within_seconds: float | None = None) -> int | None:
        """End the server; waits until it and its stubs are gone. Its files stay until `clean`.

        Args:
            within_seconds: how long that may take before it is killed; by default as at the start.
        """
        if os.getpid() != self._owner:  # a fork of us does not own the server
            return None
        if self.poll() is None:
            limit = self._stop_seconds if within_seconds is None else within_seconds
            self._write(f"within {limit} stop")
            answer = self._read(limit + _MARGIN_SECONDS) or {}
            self.returncode = int(answer.get("returncode", -9))
        return self.returncode

    def clean(self) -> None:
        """Let the keeper remove the directory and end; waits for it."""
        if os.getpid() == self._owner:
            self._write("clean")
            self._finish()

    def _finish(self) -> None:
        """Wait for the keeper's end; without it the server can't live, but its files can."""
        try:
            self._write("clean")
            self._keeper.wait(_MARGIN_SECONDS)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        for pipe in (self._keeper.stdin, self._keeper.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        # The keeper has done this, unless something has killed it.
        _keeper.remove_regions(self._shared_memory_prefix)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _write(self, line: str) -> None:
        """Write a line to the keeper, which may be gone."""
        if self._keeper.stdin is not None and not self._keeper.stdin.closed:
            text = line.encode() + b"\n"
            with contextlib.suppress(OSError):
                while text:
                    text = text[self._keeper.stdin.write(text) :]

    def _read(self, timeout_seconds: float) -> dict[str, Any] | None:
        """Return the keeper's next answer: None if none comes in time, empty if the keeper is gone."""
        stdout = self._keeper.stdout
        if stdout is None or stdout.closed:
            return {}
        deadline = time.monotonic() + timeout_seconds
        while b"\n" not in self._unread:
            left = max(deadline - time.monotonic(), 0.0)
            if not select.select([stdout], [], [], left)[0]:
                return None
            data = os.read(stdout.fileno(), 65536)
            if not data:
                return {}
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer
