"""What a model repository holds, as one short text: it changes when a file does."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from kindaware._server.model_folder import is_clutter

_BLOCK_BYTES = 2**20
_LENGTH = 16
"""Characters of the digest that are kept: 64 bits."""


def digest_repositories(repositories: Sequence[str]) -> str:
    """Return a digest of the names and contents of all files in repositories on this machine.

    It is the same wherever the repositories lie. Python's caches, and folders that tools have left, don't
    count. Waits for every file to be read.

    Args:
        repositories: checked paths; addresses such as `s3://...` count by their text alone.

    Raises:
        OSError: a file can't be read.
    """
    digest = hashlib.sha256()
    for repository in repositories:
        if "://" in repository:
            digest.update(f"address {repository}\n".encode())
            continue
        root = Path(repository)
        for path in _list_files(root):
            name = path.relative_to(root).as_posix()
            digest.update(f"file {len(name)} {name} {_digest_file(path)}\n".encode())
        digest.update(b"end\n")
    return digest.hexdigest()[:_LENGTH]


def _list_files(root: Path) -> Iterator[Path]:
    """Yield the files below a directory, in the order of their names; links are followed."""
    for folder, folders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        folders[:] = sorted(one for one in folders if one != "__pycache__" and not is_clutter(here / one))
        for name in sorted(files):
            yield here / name


def _digest_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
