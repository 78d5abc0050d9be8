"""The server's log on the terminal, as it grows."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from kindaware._server.log import ErrorFilter

_POLL_SECONDS = 0.1


class LogFollower:
    """Copies a growing file to standard error in a thread of its own, from `start` until `close`.

    Args:
        path: the file; it may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._errors: ErrorFilter | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="kindaware log", daemon=True)

    def start(self) -> None:
        """Copy all of it."""
        self._thread.start()

    def start_with_errors(self) -> None:
        """Copy the errors and warnings that come from now on, and nothing else."""
        self._position = self._path.stat().st_size
        self._errors = ErrorFilter()
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

    def _copy(self) -> None:
        """Write what came since the last time."""
        try:
            with self._path.open("rb") as log:
                log.seek(self._position)
                data = log.read()
        except FileNotFoundError:
            return
        self._position += len(data)
        text = data.decode(errors="replace")
        sys.stderr.write(text if self._errors is None else self._errors.feed(text))
        sys.stderr.flush()
