"""Model repositories, checked before a server gets them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from kindaware._server.failure import ServerError
from kindaware._server.model_folder import (
    check_code,
    check_is_model,
    describe_wrong_path,
    is_model,
    list_folders,
    list_versions,
    read_config,
)


def list_repositories(
    repository: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, may_be_empty: bool = False
) -> list[str]:
    """Return the absolute paths of one or several repositories; addresses such as `s3://...` are not checked.

    A model's directory counts as a repository with this model in it.

    Args:
        repository: one path, or several.
        may_be_empty: accept a repository without any model in it.

    Raises:
        ServerError: one is missing, is no directory, is empty, or is a part of a model.
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


def is_single_model(path: Path) -> bool:
    """Return whether a directory is a model, and no repository of models whose names are numbers."""
    return is_model(path) and not any(map(is_model, list_versions(path)))


def find_models(repositories: Sequence[str]) -> dict[str, Path]:
    """Return the models' directories of the repositories on this machine, by their served names."""
    found: dict[str, Path] = {}
    for path in [Path(repository) for repository in repositories if "://" not in repository]:
        if is_single_model(path):
            found[read_config(path).value("name") or path.name] = path
        else:
            found |= {entry.name: entry for entry in sorted(path.iterdir()) if is_model(entry)}
    return found


def check_models(
    repositories: Sequence[str], models: Sequence[str] | None = None, *, code_only: bool = False
) -> None:
    """Refuse models that can't be loaded, and directories that are none, before the server gets them.

    Args:
        repositories: checked paths; addresses are not looked at.
        models: the only ones to check; all by default.
        code_only: look only for what the server would wait for without an end.

    Raises:
        ServerError: about the first one.
    """
    for repository in repositories:
        path = Path(repository)
        if "://" in repository:
            continue
        for folder in [path] if is_single_model(path) else list_folders(path):
            if models is None or folder.name in models:
                if not code_only:
                    check_is_model(folder)
                check_code(folder)


def _check_repository(text: str, *, may_be_empty: bool) -> str:
    """Check one repository and return its absolute path."""
    if "://" in text:
        return text
    path = Path(text).expanduser().absolute()
    subject, expected = f"model repository {path}", "a directory that has one directory per model"
    wrong = describe_wrong_path(path) or _describe_wrong_level(path)
    if wrong is None and not (may_be_empty or is_model(path) or any(list_folders(path))):
        wrong = "a directory without any", f"put a model into it, at least {path / 'NAME' / '1' / 'model.py'}"
    if wrong is not None:
        got, remedy = wrong
        raise ServerError.of(subject, expected=expected, got=got, remedy=remedy)
    return str(path)


def _describe_wrong_level(path: Path) -> tuple[str, str] | None:
    """Return what a directory is that isn't a repository, and what to pass instead; None for a repository."""
    if is_single_model(path):
        return None
    folders = list_folders(path)
    if folders and not any(map(is_model, folders)):
        above = [folder for folder in folders if any(map(is_model, list_folders(folder)))]
        if above:
            return f"one with a repository in it, {above[0].name}", f"pass {' '.join(map(str, above))}"
    return None
