"""Files of a new model, written to the disk all or none."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from kindaware._errors import ConfigError, OptionError

Files = Mapping[str, "str | Path"]
"""What a model directory holds: by path in it, the text of a file, or a file to copy."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", re.ASCII)


def check_name(name: str) -> str:
    """Return a model's name, if a server and a shell take it as it is.

    Raises:
        OptionError: it has other characters than letters, digits, `_`, `.`, `+` and `-`, or begins with one
            of the last three.
    """
    if not _NAME.fullmatch(name):
        raise OptionError.of(
            "NAME",
            expected="letters, digits, _ . + and -, a letter, digit or _ first",
            got=repr(name),
            remedy="choose another name",
        )
    return name


def write_directories(directories: Mapping[Path, Files], *, force: bool = False) -> None:
    """Write directories with their files; after an error, or Ctrl-C, none of them is there.

    Args:
        directories: files by directory. An empty directory may be there already.
        force: whether files of an existing directory are replaced; files of other names stay.

    Raises:
        ConfigError: a directory exists and has something in it, and `force` isn't given.
        OSError: something can't be written.
    """
    for directory in directories:
        check_free(directory, force=force)
    with _staged(directories) as staged, _undisturbed():
        moved: list[Path] = []
        try:
            for directory, ready in staged.items():
                is_new = not directory.exists()
                _place(ready, directory)
                if is_new:
                    moved.append(directory)
        except BaseException:
            for directory in moved:
                shutil.rmtree(directory, ignore_errors=True)
            raise


def check_free(directory: Path, *, force: bool) -> None:
    """Refuse a place that has something in it.

    Raises:
        ConfigError: a file, or without `force` a directory with files.
    """
    if directory.is_dir() and (force or not any(directory.iterdir())):
        return
    if os.path.lexists(directory):
        is_directory = directory.is_dir()
        raise ConfigError.of(
            str(directory),
            expected="a directory that isn't there yet",
            got="one with files in it" if is_directory else "a file",
            remedy="choose another name, or replace the files in it with --force"
            if is_directory
            else "choose another name",
        )


@contextmanager
def _staged(directories: Mapping[Path, Files]) -> Iterator[dict[Path, Path]]:
    """Write everything beside its place, under names that no server takes for a model's."""
    places: list[Path] = []
    made: list[Path] = []
    try:
        staged = {}
        for directory, files in directories.items():
            made += _make_parents(directory.parent)
            places.append(Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent)))
            staged[directory] = places[-1] / directory.name
            _write(files, staged[directory])
        yield staged
        made.clear()
    finally:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)
        for parent in reversed(made):
            with suppress(OSError):  # not empty: Ctrl-C came when all was in its place
                parent.rmdir()


def _make_parents(directory: Path) -> list[Path]:
    """Make a directory and those above it, and return the new ones, the outermost first."""
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _write(files: Files, directory: Path) -> None:
    directory.mkdir()
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, path)
        else:
            path.write_text(content, encoding="utf-8")


def _place(ready: Path, directory: Path) -> None:
    """Move a finished directory to its place; into one that is there, file by file."""
    if not directory.exists():
        ready.rename(directory)
        return
    for path in sorted(ready.rglob("*")):
        place = directory / path.relative_to(ready)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        else:
            path.replace(place)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold Ctrl-C back, for the moment that moving finished files takes."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
