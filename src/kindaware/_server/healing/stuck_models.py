"""The end of a server that would wait for models that can't end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from pathlib import Path
from types import TracebackType

_LIVE = re.compile(rb"Timeout \d+: Found (\d+) live models and 0 in-flight")
_LOADS_ON = re.compile(
    rb"Found 0 model versions that have in-flight inferences\"?\n.* is currently loading or "
)
_LOADS_SECONDS = 4
"""How often the server may say, once a second, that it only waits for a load."""
_POLL_SECONDS = 0.1
_TAIL_BYTES = 16384


class StuckModels:
    """Kills a server that ends, once it waits for nothing but dead models; a context manager.

    A request that fails on a dead stub is never given back, so its model is never unloaded, and the server
    waits for it until `--exit-timeout-secs`, as it does for one that is being loaded again. Source: measured
    on tritonserver 2.51.0.

    Args:
        num_models: how many models, by their versions, can't end.
        loads: whether a dead model is being loaded.
        server: its process id.
        log: its log, in which it says each second how many models live.
    """

    def __init__(self, num_models: int, loads: bool, server: int, log: Path) -> None:
        self._num_models = num_models
        self._loads = loads
        self._server = server
        self._log = log
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kindaware stop", daemon=True)

    def __enter__(self) -> None:
        if self._num_models or self._loads:
            self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        start = self._size()
        while not self._ended.wait(_POLL_SECONDS):
            text = _read_end(self._log, start)
            num_live = read_live(text)
            is_stuck = num_live is not None and num_live <= self._num_models
            if is_stuck or (self._loads and len(_LOADS_ON.findall(text)) >= _LOADS_SECONDS):
                with contextlib.suppress(OSError):
                    os.kill(self._server, signal.SIGKILL)
                return

    def _size(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0


def read_live(log: bytes) -> int | None:
    """Return how many models a server that ends still waits for, or None where its log doesn't say."""
    found = _LIVE.findall(log)
    return int(found[-1]) if found else None


def _read_end(log: Path, start: int) -> bytes:
    """Return what was logged since the end began, or the end of that."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - _TAIL_BYTES))
            return file.read()
    except OSError:
        return b""
