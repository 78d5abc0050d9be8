"""Rules about a model's directory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kindaware._server.model_folder import is_model
from kindaware.cli.check._registry import Found, rule
from kindaware.cli.check._subject import Subject

_LIKE_A_VERSION = re.compile(r"(v|version|ver)?[._-]?\d+([._-].*)?|latest|main", re.IGNORECASE)


@rule("KA101", "error", "model.py lies beside the version folders and not in one")
def code_outside(subject: Subject) -> Iterator[Found]:
    """Triton reads `<model>/<version>/model.py` and nothing else."""
    misplaced = subject.folder / subject.filename
    if subject.is_python and subject.code_file is None and misplaced.is_file():
        version = subject.folder / "1"
        yield Found(
            f"{subject.filename} is in no version folder",
            f"mkdir -p {version} && mv {misplaced} {version}",
            file=misplaced,
        )


@rule("KA102", "error", "there is no version folder, such as 1/")
def no_version(subject: Subject) -> Iterator[Found]:
    """Version folders have whole numbers for names."""
    named = _named_otherwise(subject)
    is_alone = not subject.versions and not (subject.folder / subject.filename).is_file()
    if subject.is_python and is_alone and (subject.config_text or named):
        yield Found(
            "there is no version folder, whose name is a whole number",
            f"mv {named[0]} {subject.folder / '1'}"
            if named
            else f"write {subject.folder / '1' / subject.filename}",
            file=subject.folder,
        )


@rule("KA103", "error", "the version that is served has no code")
def no_code(subject: Subject) -> Iterator[Found]:
    """A server waits for ever for the process of a model without its code (2.51)."""
    has_policy = bool(subject.tree.find("version_policy"))
    if not subject.is_python or not subject.versions or (has_policy and subject.code_file):
        return
    newest = subject.versions[-1] / subject.filename
    if not newest.is_file() and not (subject.folder / subject.filename).is_file():
        alike = sorted(newest.parent.glob("*.py"))
        yield Found(
            f"version {newest.parent.name}, the newest, has no {subject.filename}",
            f"mv {alike[0]} {newest}" if len(alike) == 1 else f"write {newest}, or remove {newest.parent}",
            file=newest.parent,
        )


@rule("KA104", "warning", "a folder looks like a version, and its name is no whole number")
def stray_version(subject: Subject) -> Iterator[Found]:
    """Triton ignores it."""
    for one in sorted(subject.folder.iterdir()):
        is_other = one.is_dir() and not one.name.isdecimal() and bool(subject.versions)
        if is_other and ((one / subject.filename).is_file() or _LIKE_A_VERSION.fullmatch(one.name)):
            yield Found(
                f"Triton ignores the folder {one.name}/: a version's name is a whole number",
                f"rename it to a number, or move it out of {subject.folder}",
                file=one,
            )


@rule("KA106", "error", "a folder of the repository is no model")
def no_model(subject: Subject) -> Iterator[Found]:
    """The server takes every folder for a model, and reports one that it can't load."""
    has_code = bool(subject.versions) or (subject.folder / subject.filename).is_file()
    if not (subject.config_text or has_code or _named_otherwise(subject)):
        is_repository = any(is_model(one) for one in subject.folder.iterdir())
        yield Found(
            "it has models in it: a repository within the repository"
            if is_repository
            else "it has neither a config.pbtxt nor a version, and the server takes every folder for a model",
            f"move {subject.folder} out of the repository",
            file=subject.folder,
        )


def _named_otherwise(subject: Subject) -> list[Path]:
    """Return the folders with code in them that are no versions."""
    folders = (one for one in sorted(subject.folder.iterdir()) if not one.name.isdecimal())
    return [one for one in folders if (one / subject.filename).is_file()]


@rule("KA105", "error", "the name in config.pbtxt is not the directory's")
def other_name(subject: Subject) -> Iterator[Found]:
    """Triton refuses to load such a model."""
    written = subject.tree.text("name")
    if written and written != subject.name:
        yield Found(
            f"the name is {written!r}, and the directory's is {subject.name!r}",
            "remove the name from config.pbtxt, or rename the directory",
            line=subject.tree.line_of("name"),
        )
