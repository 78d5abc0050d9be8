"""Model repositories, checked before a server gets them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from kindaware._server.failure import ServerError

_SHELL_SAFE = re.compile(r"[\w./:@%+=,-]*", re.ASCII)


def list_repositories(
    repository: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, may_be_empty: bool = False
) -> list[str]:
    """Return the absolute paths of one or several repositories; addresses such as `s3://...` are not checked.

    Args:
        repository: one path, or several.
        may_be_empty: accept a repository without any model in it.

    Raises:
        ServerError: one is missing, is no directory, is empty, or is a model and not a repository.
    """
    one = isinstance(repository, (str, os.PathLike))
    paths: list[str | os.PathLike[str]] = [repository] if one else list(repository)  # type: ignore[list-item,arg-type]
    if not paths:
        raise ServerError.of(
            "model repository",
            expected="at least one",
            got="none",
            remedy="give the directory of your models",
        )
    return [_check_repository(os.fspath(path), may_be_empty=may_be_empty) for path in paths]


def is_shell_safe(text: str) -> bool:
    """Return whether a path needs no quotes in a shell."""
    return _SHELL_SAFE.fullmatch(text) is not None


def link_unsafe(repositories: Sequence[str], directory: Path) -> list[str]:
    """Link repositories whose path a shell would split or expand into `directory`.

    The wheel's server starts its stubs through a shell and does not quote the model's path: the stub dies,
    and the server waits for it forever.

    Raises:
        ServerError: the name of a model's directory has such a character, where no link helps.
    """
    linked = []
    for number, repository in enumerate(repositories):
        if "://" in repository:
            linked.append(repository)
            continue
        for model in sorted(Path(repository).iterdir()):
            if model.is_dir() and not is_shell_safe(model.name):
                raise ServerError.of(
                    f"model directory {model}",
                    expected="a name of letters, digits and . _ - + = , : @ %",
                    got=repr(model.name),
                    remedy="rename it: this server's shell would take it apart",
                )
        if is_shell_safe(repository):
            linked.append(repository)
        else:
            link = directory / f"repository-{number}"
            link.symlink_to(repository, target_is_directory=True)
            linked.append(str(link))
    return linked


def _check_repository(text: str, *, may_be_empty: bool) -> str:
    """Check one repository and return its absolute path."""
    if "://" in text:
        return text
    path = Path(text).expanduser().absolute()
    subject, expected = f"model repository {path}", "a directory that has one directory per model"
    if not path.is_dir():
        got = "a file" if path.exists() else "no such directory"
        raise ServerError.of(subject, expected=expected, got=got, remedy="check the path")
    if (path / "config.pbtxt").is_file() or any(path.glob("[0-9]*/model.py")):
        raise ServerError.of(
            subject, expected=expected, got="a model", remedy=f"pass its parent, {path.parent}"
        )
    if not may_be_empty and not any(entry.is_dir() for entry in path.iterdir()):
        raise ServerError.of(
            subject,
            expected=expected,
            got="a directory without any",
            remedy=f"put a model into it, at least {path / 'NAME' / '1' / 'model.py'}",
        )
    return str(path)
