"""How an instance learns that its server ends, and no longer waits for the streams that are open."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

VARIABLE = "KINDAWARE_END_STREAMS_FILE"
"""Names a file in the stub's environment; when it appears, streams are to end. `TritonServer` writes it."""
_POLL_SECONDS = 0.25


class EndOfServer:
    """Waits in a thread of its own for the server's word that streams are to end.

    Triton has no such word: it unloads a model when all its streams have ended, or kills it.

    Args:
        path: of the file that is the word.
        end_streams: called once, in the thread.
    """

    def __init__(self, path: Path, end_streams: Callable[[], None]) -> None:
        self._path = path
        self._end_streams = end_streams
        self._closed = threading.Event()
        threading.Thread(target=self._wait, name="kindaware-end-of-server", daemon=True).start()

    @classmethod
    def of_environment(
        cls, environment: Mapping[str, str], end_streams: Callable[[], None]
    ) -> EndOfServer | None:
        """Return what waits, or None where the server was started by somebody else."""
        name = environment.get(VARIABLE)
        return None if not name else cls(Path(name), end_streams)

    def close(self) -> None:
        """Stop waiting."""
        self._closed.set()

    def _wait(self) -> None:
        while not self._closed.wait(_POLL_SECONDS):
            if self._path.exists():
                self._end_streams()
                return
