"""What a server gets in place of a user's repositories, where it could not serve them as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from kindaware._errors import ConfigError
from kindaware._server.config_edit import change_config
from kindaware._server.config_text import ConfigText
from kindaware._server.failure import ServerError
from kindaware._server.model_folder import is_clutter, is_model, read_config

Settings = Mapping[str, Mapping[str, str]]
"""Changes to the configurations of models, by model: values by key, as `change_config` takes them."""

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
    for model in _list_models(repositories):
        if not is_shell_safe(model.name):
            raise ServerError.of(
                f"model directory {model}",
                expected="a name of letters, digits and . _ - + = , : @ %",
                got=repr(model.name),
                remedy="rename it: this server's shell would take it apart",
            )


def link_repositories(
    repositories: Sequence[str], directory: Path, *, on_cpu: bool, settings: Settings | None = None
) -> list[str]:
    """Return paths for the server, with links in `directory` to repositories that it can't serve as they are.

    Those are: repositories with directories in them that are no models but a tool's; those with models whose
    configurations are copied and changed; those whose path a shell would split or expand.

    Args:
        repositories: checked paths, or addresses, which are left alone.
        directory: of the caller's own.
        on_cpu: whether every instance is to be on the CPU.
        settings: changes to configurations, by model.

    Raises:
        ServerError: there are settings for a model that no repository has, or for a field that there isn't.
    """
    changed = settings or {}
    _check_are_models(repositories, changed)
    linked = []
    for number, repository in enumerate(repositories):
        path, link = Path(repository), directory / f"repository-{number}"
        if "://" in repository:
            linked.append(repository)
        elif on_cpu or any(is_clutter(one) or one.name in changed for one in path.iterdir()):
            _link_entries(path, link, on_cpu=on_cpu, settings=changed)
            linked.append(str(link))
        elif not is_shell_safe(repository):
            link.symlink_to(path, target_is_directory=True)
            linked.append(str(link))
        else:
            linked.append(repository)
    return linked


def _check_are_models(repositories: Sequence[str], settings: Settings) -> None:
    """Refuse settings for a model that isn't there."""
    known = [model.name for model in _list_models(repositories)]
    for name in settings:
        if name not in known:
            raise ServerError.of(
                f"settings of model {name!r}",
                expected="a model of the repositories",
                got="none of that name",
                remedy=f"they have: {', '.join(known) or 'none on this machine'}",
            )


def describe_moves(repositories: Sequence[str]) -> str:
    """Return a line that names the models which `on_cpu` takes off their devices."""
    moved = []
    for model in _list_models(repositories):
        config = read_config(model)
        kinds = dict.fromkeys(kind for kind in config.kinds() if kind != "KIND_CPU")
        if kinds:
            moved.append(f"{model.name} ({', '.join(kinds)})")
    names = ", ".join(moved) if moved else "no model names another kind"
    return f"kind CPU in place of what the configurations say, which are left as they are: {names}"


def _list_models(repositories: Sequence[str]) -> list[Path]:
    """Return the models' directories of the repositories on this machine."""
    local = [Path(repository) for repository in repositories if "://" not in repository]
    return [entry for path in local for entry in sorted(path.iterdir()) if is_model(entry)]


def _link_entries(repository: Path, link: Path, *, on_cpu: bool, settings: Settings) -> None:
    """Link all of a repository but clutter into a directory: a model may read what lies beside it."""
    link.mkdir()
    for entry in repository.iterdir():
        if is_clutter(entry):
            continue
        if is_model(entry) and (on_cpu or entry.name in settings):
            _link_model(entry, link / entry.name, on_cpu=on_cpu, settings=settings.get(entry.name, {}))
        else:
            (link / entry.name).symlink_to(entry)


def _link_model(model: Path, link: Path, *, on_cpu: bool, settings: Mapping[str, str]) -> None:
    """Link all of a model but its configurations into a directory; these are copied and changed."""

    def write_changed(text: str, path: Path) -> None:
        try:
            changed = change_config(text, settings)
        except ConfigError as error:
            raise ServerError(f"model {model.name!r}: {error}") from error
        path.write_text(ConfigText(changed).on_cpu() if on_cpu else changed)

    link.mkdir()
    for entry in model.iterdir():
        if entry.name == "configs" and entry.is_dir():
            (link / "configs").mkdir()
            for config in entry.glob("*.pbtxt"):
                write_changed(config.read_text(), link / "configs" / config.name)
        elif entry.name != "config.pbtxt":
            (link / entry.name).symlink_to(entry)
    if (model / "config.pbtxt").is_file():
        write_changed((model / "config.pbtxt").read_text(), link / "config.pbtxt")
    elif any(model.glob("*/model.py")):
        write_changed('backend: "python"\n', link / "config.pbtxt")
