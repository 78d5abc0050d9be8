"""The cache on disk: files that are costly to make, made by one process and read by all the others.

An instance that finds no file makes it, under a lock that the others wait for. A file gets its name only once
it is complete, and is never changed after that, so that processes may map it. Its name ends in its checksum:
a damaged file is made anew. A note beside it spares the processes that follow the reading of a file that one
of them has checked, until the file changes or the machine restarts.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kindaware._errors import ConfigError, describe

FOLDER = "KINDAWARE_CACHE"
"""Environment variable that names the folder."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CLOCK_NS = 20_000_000
"""Longer than the clock of a file system stands still: Linux moves it on with each tick, of up to 10 ms."""

_PIECE_BYTES = 2**20
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class CacheError(ConfigError):
    """The cache can't be used; a caller that can do without it logs this and goes on."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What a file is for, and what it is made from.

    Attributes:
        label: for people who look into the folder, such as the name of the model.
        slot: what the file is for. A file made for a slot replaces the slot's older ones, so that they don't
            pile up: name here what several files may be needed for at once, such as the precision.
        source: what the file is made from; another source takes another file.
        suffix: of the file's name.
    """

    label: str
    slot: Mapping[str, object]
    source: Mapping[str, object]
    suffix: str

    @property
    def slot_name(self) -> str:
        """The part of the name that the slot's files share."""
        label = re.sub(r"[^\w.-]", "_", self.label)
        return f"{label}-{_digest(self.slot)}"

    @property
    def name(self) -> str:
        """The name up to the checksum."""
        return f"{self.slot_name}-{_digest(self.source)}-"


class Cache:
    """One kind of files in the cache's folder.

    Args:
        kind: name of the folder within the cache's, such as `weights`.
        environment: of the process; names the cache's folder, see `locate`.

    Raises:
        CacheError: the folder can't be made, or users other than this one and root may write to it.
    """

    def __init__(self, kind: str, environment: Mapping[str, str]) -> None:
        self.folder = locate(environment) / kind
        with _explained(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.folder.stat()
        # What others wrote could be code, or somebody else's weights.
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & _WRITABLE_BY_OTHERS:
            raise CacheError.of(
                f"cache {str(self.folder)!r}",
                expected="a folder that only its owner, this user or root, can write to",
                got=f"owner {found.st_uid} and mode {stat.S_IMODE(found.st_mode):o}",
                remedy=f"remove it, or name another folder with the environment variable {FOLDER}",
            )

    def find(self, entry: Entry) -> Path | None:
        """Return the entry's file; None if there is none, or only a damaged one."""
        with _explained(self.folder):
            return next(filter(_is_intact, self._files(entry.name)), None)

    def obtain(self, entry: Entry, write: Callable[[Path], None]) -> Path:
        """Return the entry's file, after making it if there is none.

        Args:
            entry: what the file is for, and what it is made from.
            write: writes the file to a path that it gets.

        Raises:
            CacheError: the file can't be written, as on a full disk.
            Exception: what `write` raised, unless it is an OSError.

        Sync:
            Until another process that makes a file for this slot is done.
        """
        path = self.find(entry)
        if path is not None:
            return path
        with _explained(self.folder):
            seen = self._identities(entry)
            with self._locked(entry):
                # Another process may have made it meanwhile; a damaged one is still the one seen above.
                if self._identities(entry) == seen:
                    return self._make(entry, write)
        return self.obtain(entry, write)

    def _make(self, entry: Entry, write: Callable[[Path], None]) -> Path:
        # One name per slot, whose lock is held: what a killed process left there is overwritten.
        part = self.folder / f"{entry.slot_name}.part{entry.suffix}"
        try:
            write(part)
            path = self.folder / f"{entry.name}{_checksum(part):08x}{entry.suffix}"
            part.replace(path)
            _note(path)
        finally:
            part.unlink(missing_ok=True)
        for other in self._files(f"{entry.slot_name}-"):
            if other != path:
                # A process that has mapped it keeps its pages.
                other.unlink(missing_ok=True)
                _note_of(other).unlink(missing_ok=True)
        return path

    def _files(self, start: str) -> list[Path]:
        return sorted(self.folder.glob(f"{glob.escape(start)}*"))

    def _identities(self, entry: Entry) -> list[tuple[Path, int]]:
        found = []
        for path in self._files(entry.name):
            with contextlib.suppress(FileNotFoundError):  # replaced meanwhile
                found.append((path, path.stat().st_ino))
        return found

    @contextlib.contextmanager
    def _locked(self, entry: Entry) -> Iterator[None]:
        # The kernel releases the lock of a process that ends. The file stays: a process may wait at it.
        with (self.folder / f"{entry.slot_name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def locate(environment: Mapping[str, str]) -> Path:
    """Return the cache's folder: of `KINDAWARE_CACHE`, or `kindaware` in the user's folder of caches.

    Source: XDG Base Directory Specification; a relative path there is to be ignored.
    """
    named = environment.get(FOLDER)
    if named:
        return Path(named).absolute()
    caches = Path(environment.get("XDG_CACHE_HOME", ""))
    return (caches if caches.is_absolute() else Path(os.path.expanduser("~/.cache"))) / "kindaware"


def _digest(facts: Mapping[str, object]) -> str:
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_intact(path: Path) -> bool:
    try:
        if _is_noted(path):
            return True
        is_intact = path.stem.endswith(f"-{_checksum(path):08x}")
    except FileNotFoundError:  # replaced meanwhile
        return False
    if is_intact:
        _note(path)
    return is_intact


def _note_of(path: Path) -> Path:
    # With a dot in front, so that it is not taken for a file of the entry.
    return path.with_name(f".{path.name}.intact")


def _note(path: Path) -> None:
    """Write down that a file is intact, for processes that find it later; a folder may be read-only."""
    with contextlib.suppress(OSError):
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_text(_state(path))
        part.replace(_note_of(path))


def _is_noted(path: Path) -> bool:
    note = _note_of(path)
    try:
        # A file that was written just before its note could change once more at the same time of the clock.
        is_later = note.stat().st_mtime_ns - path.stat().st_mtime_ns > _CLOCK_NS
        return is_later and note.read_text() == _state(path)
    except OSError:
        return False


def _state(path: Path) -> str:
    """Return what changes with a file, and with a restart, after which a disk may have lost what was written.

    Raises:
        OSError: the file is gone, or the system doesn't tell which start this is.
    """
    found = path.stat()
    return f"{_BOOT_ID.read_text().strip()} {found.st_ino} {found.st_size} {found.st_mtime_ns}"


def _checksum(path: Path) -> int:
    """Return the CRC-32 of a file: against damage, not against an attacker, whom the folder keeps out."""
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            checksum = zlib.crc32(piece, checksum)
    return checksum


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Raise an OSError as a `CacheError` with a remedy."""
    try:
        yield
    except OSError as error:
        raise CacheError.of(
            f"cache {str(folder)!r}",
            expected="a folder that files can be written to, with room for them",
            got=describe(error),
            remedy=f"make room, or name another folder with the environment variable {FOLDER}",
        ) from error
