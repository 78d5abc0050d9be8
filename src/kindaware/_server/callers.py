"""Which models of a repository call which others, as far as their files say."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

_QUOTED = re.compile(r"""["']([\w.+=,:@%-]+)["']""")
_FILES = ("config.pbtxt", "*.pbtxt", "*/*.py")


def find_callers(models: Mapping[str, Path | None]) -> dict[str, set[str]]:
    """Return the models that call each model.

    A model counts as a caller of each whose name stands in quotes in its configuration, as in an ensemble's,
    or in a Python file of a version.

    Args:
        models: their directories by name; None where it is not known.
    """
    named = {name: _find_names(folder) for name, folder in models.items()}
    return {name: {other for other in models if other != name and name in named[other]} for name in models}


def _find_names(folder: Path | None) -> set[str]:
    """Return all that stands in quotes in a model's files."""
    if folder is None:
        return set()
    return {name for file in _list_files(folder) for name in _QUOTED.findall(_read(file))}


def _list_files(folder: Path) -> Collection[Path]:
    return {file for pattern in _FILES for file in folder.glob(pattern)}


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
