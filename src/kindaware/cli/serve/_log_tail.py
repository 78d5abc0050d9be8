"""What has been written to a file since the last look."""

from __future__ import annotations

import codecs
from pathlib import Path


class LogTail:
    """Reads a growing file piece by piece.

    Args:
        path: the file; it may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def skip(self) -> None:
        """Leave out what is there now."""
        self._position = self._path.stat().st_size

    def read(self) -> str:
        """Return what came since the last time; empty while there is no file."""
        try:
            with self._path.open("rb") as log:
                log.seek(self._position)
                data = log.read()
        except FileNotFoundError:
            return ""
        self._position += len(data)
        return self._decoder.decode(data)
