"""Models whose files have changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kindaware._server.command import read_option
from kindaware._server.failure import ServerOptionError
from kindaware._server.repository import find_models
from kindaware.cli._file_watch import FileWatch, check_watch_installed, follow_links


def check_watchable(repositories: Sequence[str], args: Sequence[str]) -> None:
    """Refuse what can't be watched.

    Raises:
        ServerOptionError: a repository is elsewhere, or the server has a mode of the user's.
        ConfigError: a package is missing.
    """
    remote = [one for one in repositories if "://" in one]
    if remote:
        got, remedy = remote[0], "copy it to this machine"
    elif read_option(args, "--model-control-mode") is not None:
        got, remedy = "--model-control-mode in what follows --", "leave that out: --watch sets it"
    else:
        check_watch_installed()
        return
    raise ServerOptionError.of(
        "--watch", expected="models on this machine, to reload", got=got, remedy=remedy
    )


class ModelWatch:
    """Notes which models' files change, from `start` until `close`.

    Args:
        repositories: checked paths.
    """

    def __init__(self, repositories: Sequence[str]) -> None:
        self._repositories = repositories
        self._known = find_models(repositories)
        self._files = FileWatch(self._list_roots)
        self.start, self.close = self._files.start, self._files.close

    def take(self, *, code_only: bool = False) -> list[str]:
        """Return the models that have changed, are new, or are gone since the last time.

        Args:
            code_only: leave out files other than code and configurations: a model may write them as it loads.
        """
        paths = self._files.take(code_only=code_only)
        if not paths:
            return []
        before, self._known = self._known, find_models(self._repositories)
        changed = {name for name, folder in self._known.items() if any(_is_in(one, folder) for one in paths)}
        return sorted(changed | (before.keys() ^ self._known.keys()))

    def _list_roots(self) -> set[Path]:
        roots = {Path(repository) for repository in self._repositories}
        return roots.union(*map(follow_links, find_models(self._repositories).values()))


def _is_in(path: Path, folder: Path) -> bool:
    """Return whether a path is in a model's directory, or what a link in it leads to."""
    return any(path.is_relative_to(place) for place in follow_links(folder))
