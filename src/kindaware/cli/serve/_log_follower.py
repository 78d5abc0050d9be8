"""The server's log as it grows, for those who watch it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from kindaware.cli.serve._log_tail import LogTail
from kindaware.cli.serve._view import LogLines

_POLL_SECONDS = 0.1


class LogFollower:
    """Shows a growing file in a thread of its own, from `start` until `close`.

    Args:
        path: the file; it may not be there yet.
        show: what shows a piece of text.
    """

    def __init__(self, path: Path, show: Callable[[str], None]) -> None:
        self._tail = LogTail(path)
        self._show = show
        self._lines: LogLines | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="kindaware log", daemon=True)

    def start(self, lines: LogLines | None = None) -> None:
        """Show all of it.

        Args:
            lines: writes it in another form.
        """
        self._lines = lines
        self._thread.start()

    def start_with_errors(self, errors: LogLines) -> None:
        """Show the errors and warnings that come from now on, and nothing else.

        Args:
            errors: picks them out.
        """
        self._tail.skip()
        self._lines = errors
        self._thread.start()

    def close(self) -> None:
        """Show the rest, and wait for that."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _follow(self) -> None:
        while not self._closed.wait(_POLL_SECONDS):
            self._copy()
        self._copy()
        if self._lines is not None:
            self._write(self._lines.close())

    def _copy(self) -> None:
        """Write what came since the last time."""
        text = self._tail.read()
        self._write(text if self._lines is None else self._lines.feed(text))

    def _write(self, text: str) -> None:
        if text:
            self._show(text)
