"""What a server gets in place of a user's repositories, where it could not serve them as they are."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from kindaware._server.config_changes import ConfigChanges
from kindaware._server.failure import ServerError
from kindaware._server.model_folder import is_clutter, read_config
from kindaware._server.repository import find_models, is_single_model

_SHELL_SAFE = re.compile(r"[\w./:@%+=,-]*", re.ASCII)


def is_shell_safe(text: str) -> bool:
    """Return whether a path needs no quotes in a shell."""
    return _SHELL_SAFE.fullmatch(text) is not None


def check_shell_safe(repositories: Sequence[str]) -> None:
    """Refuse models whose directory has a name that a shell would split or expand.

    The wheel's server starts its stubs through a shell and does not quote the model's path: the stub dies,
    and the server waits for it forever. Of a repository's own path a link takes care.

    Raises:
        ServerError: there is such a model.
    """
    for name, model in find_models(repositories).items():
        if not is_shell_safe(name):
            raise ServerError.of(
                f"model directory {model}",
                expected="a name of letters, digits and . _ - + = , : @ %",
                got=repr(name),
                remedy="rename it: this server's shell would take it apart",
            )


class RepositoryLinks:
    """Directories of links in place of repositories that a server can't serve as they are.

    Those are: repositories with directories in them that are no models but a tool's; a model by itself; those
    with models whose configuration is changed, in a copy; those whose path a shell would split or expand.

    Args:
        repositories: checked paths, or addresses, which are left alone.
        directory: of the caller's own.
        changes: of the models' configurations.

    Attributes:
        paths: what the server gets.
    """

    def __init__(self, repositories: Sequence[str], directory: Path, changes: ConfigChanges) -> None:
        self._changes = changes
        self._linked: dict[Path, str] = {}
        self.paths = [
            self._link(repository, directory / f"repository-{number}")
            for number, repository in enumerate(repositories)
        ]

    def renew(self, model: str) -> None:
        """Link and copy a model again, which has changed, is new, or is gone."""
        for link, repository in self._linked.items():
            source = find_models([repository]).get(model)
            old = link / model
            if old.is_symlink():
                old.unlink()
            else:
                shutil.rmtree(old, ignore_errors=True)
            if source is not None:
                self._link_model(source, old)

    def _link(self, repository: str, link: Path) -> str:
        """Return what the server gets in place of a repository."""
        path = Path(repository)
        if "://" in repository:
            return repository
        models = find_models([repository])
        is_linked = is_single_model(path) or any(map(is_clutter, path.iterdir()))
        if is_linked or self._changes.concern(models):
            self._linked[link] = repository
            self._link_entries(path, link)
        elif not is_shell_safe(repository):
            link.symlink_to(path, target_is_directory=True)
        else:
            return repository
        return str(link)

    def _link_entries(self, repository: Path, link: Path) -> None:
        """Link all of a repository but clutter into a directory: a model may read what lies beside it."""
        link.mkdir()
        models = find_models([str(repository)])
        for name, model in models.items():
            self._link_model(model, link / name)
        if not is_single_model(repository):
            for entry in repository.iterdir():
                if not is_clutter(entry) and entry.name not in models:
                    (link / entry.name).symlink_to(entry)

    def _link_model(self, model: Path, link: Path) -> None:
        """Link a model, or all of it but its configurations where these are changed, in copies."""
        if not self._changes.concern([link.name]):
            link.symlink_to(model, target_is_directory=True)
            return
        link.mkdir()
        for entry in model.iterdir():
            if entry.name == "configs" and entry.is_dir():
                (link / "configs").mkdir()
                for config in entry.glob("*.pbtxt"):
                    self._copy_config(config, link / "configs" / config.name)
            elif entry.name != "config.pbtxt":
                (link / entry.name).symlink_to(entry)
        if (model / "config.pbtxt").is_file():
            self._copy_config(model / "config.pbtxt", link / "config.pbtxt")
        elif any(model.glob("*/model.py")):
            (link / "config.pbtxt").write_text(self._changes.apply(link.name, 'backend: "python"\n'))

    def _copy_config(self, source: Path, target: Path) -> None:
        name = target.parent.name if target.name == "config.pbtxt" else target.parents[1].name
        target.write_text(self._changes.apply(name, source.read_text()))


def describe_moves(repositories: Sequence[str]) -> str:
    """Return a line that names the models which kind CPU takes off their devices."""
    moved = []
    for name, model in find_models(repositories).items():
        config = read_config(model)
        kinds = dict.fromkeys(kind for kind in config.kinds() if kind != "KIND_CPU")
        if kinds:
            moved.append(f"{name} ({', '.join(kinds)})")
    names = ", ".join(moved) if moved else "no model names another kind"
    return f"kind CPU in place of what the configurations say, which are left as they are: {names}"
