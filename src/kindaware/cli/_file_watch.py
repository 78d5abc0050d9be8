"""Files that change, noted while something else goes on."""

from __future__ import annotations

import importlib.util
import queue
import threading
from collections.abc import Callable
from pathlib import Path

from kindaware._errors import ConfigError

_DEBOUNCE_MILLISECONDS = 200
_PAUSE_SECONDS = 0.1
_CODE = (".py", ".pbtxt")


def check_watch_installed() -> None:
    """Raise a ConfigError where watchfiles is not installed."""
    if importlib.util.find_spec("watchfiles") is None:
        raise ConfigError.of(
            "--watch",
            expected="the package watchfiles",
            got="no such package",
            remedy="pip install watchfiles",
        )


class FileWatch:
    """Notes in a thread of its own which files change, from `start` until `close`.

    What tools leave behind, such as `__pycache__` and the swap files of editors, is left out.

    Args:
        list_roots: returns the files and directories to watch, which may become others.
    """

    def __init__(self, list_roots: Callable[[], set[Path]]) -> None:
        self._list = list_roots
        self._changes: queue.Queue[set[Path]] = queue.Queue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="kindaware watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, and wait for it."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def take(self, *, code_only: bool = False) -> set[Path]:
        """Return what has changed since the last time.

        Args:
            code_only: leave out files other than code and configurations: a model may write them as it loads.
        """
        paths: set[Path] = set()
        while not self._changes.empty():
            paths |= self._changes.get()
        return {path for path in paths if not code_only or path.suffix in _CODE}

    def _list_roots(self) -> set[Path]:
        return {root for root in self._list() if root.exists()}

    def _follow(self) -> None:
        from watchfiles import watch

        while not self._closed.is_set():
            roots = self._list_roots()
            if not roots:  # gone for a moment, as when git changes the branch
                self._closed.wait(_PAUSE_SECONDS)
                continue
            for changes in watch(
                *roots,
                debounce=_DEBOUNCE_MILLISECONDS,
                rust_timeout=100,
                stop_event=self._closed,
                raise_interrupt=False,
            ):
                self._changes.put({Path(path) for _, path in changes})
                if self._list_roots() != roots:
                    break


def follow_links(folder: Path) -> set[Path]:
    """Return a model's directory, and what the links in it lead to."""
    if not folder.is_dir():
        return {folder}
    links = (entry for entry in (*folder.iterdir(), *folder.glob("*/*")) if entry.is_symlink())
    return {folder, folder.resolve(), *(entry.resolve() for entry in links if entry.exists())}
