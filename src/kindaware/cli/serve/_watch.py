"""Models whose files have changed."""

from __future__ import annotations

import importlib.util
import queue
import threading
from collections.abc import Sequence
from pathlib import Path

from kindaware._server.command import read_option
from kindaware._server.failure import ServerError
from kindaware._server.repository import find_models

_DEBOUNCE_MILLISECONDS = 200
_CODE = (".py", ".pbtxt")


def check_watchable(repositories: Sequence[str], args: Sequence[str]) -> None:
    """Refuse what can't be watched.

    Raises:
        ServerError: a repository is elsewhere, the server has another mode, or a package is missing.
    """
    remote = [one for one in repositories if "://" in one]
    if remote:
        got, remedy = remote[0], "copy it to this machine"
    elif read_option(args, "--model-control-mode") is not None:
        got, remedy = "--model-control-mode in what follows --", "leave that out: --watch sets it"
    elif importlib.util.find_spec("watchfiles") is None:
        got, remedy = "no package watchfiles", "pip install watchfiles"
    else:
        return
    raise ServerError.of("--watch", expected="models on this machine, to reload", got=got, remedy=remedy)


class ModelWatch:
    """Notes in a thread of its own which models' files change, from `start` until `close`.

    Args:
        repositories: checked paths.
    """

    def __init__(self, repositories: Sequence[str]) -> None:
        self._repositories = repositories
        self._changes: queue.Queue[set[Path]] = queue.Queue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="kindaware watch", daemon=True)
        self._known = find_models(repositories)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, and wait for it."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def take(self, *, code_only: bool = False) -> list[str]:
        """Return the models that have changed, are new, or are gone since the last time.

        Args:
            code_only: leave out files other than code and configurations, which a model that loads may write.
        """
        paths: set[Path] = set()
        while not self._changes.empty():
            paths |= self._changes.get()
        models = find_models(self._repositories)
        changed = {
            name
            for name, folder in models.items()
            if any(_is_in(path, folder) for path in paths if not code_only or path.suffix in _CODE)
        }
        if not code_only or paths:
            changed |= models.keys() ^ self._known.keys()
            self._known = models
        return sorted(changed)

    def _follow(self) -> None:
        from watchfiles import watch

        while not self._closed.is_set():
            paths = _list_watched(self._repositories)
            for changes in watch(
                *paths,
                debounce=_DEBOUNCE_MILLISECONDS,
                rust_timeout=100,
                stop_event=self._closed,
                raise_interrupt=False,
            ):
                self._changes.put({Path(path) for _, path in changes})
                if _list_watched(self._repositories) != paths:
                    break


def _list_watched(repositories: Sequence[str]) -> set[Path]:
    """Return the repositories, and what links in their models lead to."""
    roots = {Path(repository) for repository in repositories}
    for folder in find_models(repositories).values():
        roots.add(folder.resolve())
        for entry in (*folder.iterdir(), *folder.glob("*/*")):
            if entry.is_symlink() and entry.exists():
                roots.add(entry.resolve())
    return roots


def _is_in(path: Path, folder: Path) -> bool:
    """Return whether a path is in a model's directory, or what a link in it leads to."""
    places = [folder, folder.resolve()]
    places += [entry.resolve() for entry in (*folder.iterdir(), *folder.glob("*/*")) if entry.is_symlink()]
    return any(path == place or path.is_relative_to(place) for place in places)
