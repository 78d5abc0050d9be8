"""The server's log on the terminal, as it grows."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from kindaware.cli.serve._error_lines import ErrorLines
from kindaware.cli.serve._log_tail import LogTail

_POLL_SECONDS = 0.1


class LogFollower:
    """Copies a growing file to standard error in a thread of its own, from `start` until `close`.

    Args:
        path: the file; it may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._tail = LogTail(path)
        self._errors: ErrorLines | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="kindaware log", daemon=True)

    def start(self) -> None:
        """Copy all of it."""
        self._thread.start()

    def start_with_errors(self) -> None:
        """Show the errors and warnings that come from now on, and nothing else."""
        self._tail.skip()
        self._errors = ErrorLines()
        self._thread.start()

    def close(self) -> None:
        """Copy the rest, and wait for that."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _follow(self) -> None:
        while not self._closed.wait(_POLL_SECONDS):
            self._copy()
        self._copy()
        if self._errors is not None:
            self._write(self._errors.close())

    def _copy(self) -> None:
        """Write what came since the last time."""
        text = self._tail.read()
        self._write(text if self._errors is None else self._errors.feed(text))

    def _write(self, text: str) -> None:
        if text:
            sys.stderr.write(text)
            sys.stderr.flush()
