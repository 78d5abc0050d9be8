"""`Beat`: tells those who watch a stub since when its hooks run, through a file of sixteen bytes."""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from kindaware._errors import ConfigError

BEATS = "KINDAWARE_BEATS"
"""The environment variable that names the folder of the files; nothing is written without it."""

TRACEBACK_SIGNAL = signal.SIGUSR2
"""Has an instance that writes a beat print the stack of each of its threads to the server's log."""

_RECORD = struct.Struct("=dQ")
_SECONDS = struct.Struct("=d")
"""A record is the seconds, and when its process started: another one may get the same id."""
_START = 19
"""Of the fields of /proc/PID/stat after the name, that with the start; see proc(5)."""

Argument = TypeVar("Argument")
Result = TypeVar("Result")


class Beat:
    """The time at which the work began that runs now; a context manager around that work.

    Args:
        folder: where the file is made.
        pid: of the process, which names it.

    Raises:
        OSError: the file can't be made.
    """

    def __init__(self, folder: Path, pid: int) -> None:
        path = folder / str(pid)
        path.write_bytes(_RECORD.pack(0.0, _read_start(pid)))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _RECORD.size)
        self._depth = 0

    def __enter__(self) -> None:
        # Work within work: the outer one may go on for long, so each part begins anew.
        self._depth += 1
        _SECONDS.pack_into(self._memory, 0, time.monotonic())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._depth -= 1
        _SECONDS.pack_into(self._memory, 0, time.monotonic() if self._depth else 0.0)

    def around(self, function: Callable[[Argument], Result]) -> Callable[[Argument], Result]:
        """Return the function, with a beat around each call."""

        def call(argument: Argument) -> Result:
            with self:
                return function(argument)

        return call


def open_beat(environment: Mapping[str, str]) -> Beat | None:
    """Return this process's beat; None where nobody watches it.

    Raises:
        ConfigError: the folder can't be written to.
    """
    folder = environment.get(BEATS)
    if not folder:
        return None
    try:
        beat = Beat(Path(folder), os.getpid())
    except OSError as error:
        raise ConfigError.of(
            f"environment variable {BEATS}",
            expected="a folder that the model's process may write to",
            got=str(error),
            remedy="make it before the server starts, or unset the variable",
        ) from error
    if signal.getsignal(TRACEBACK_SIGNAL) == signal.SIG_DFL:
        # By number: sys.stderr may be anything. It works even where a hook holds the GIL.
        faulthandler.register(TRACEBACK_SIGNAL, file=2, all_threads=True)
    return beat


def read_beat(folder: Path, pid: int) -> float | None:
    """Return since when a process's hooks run, as `time.monotonic` counts; 0 while they don't.

    None for a process that writes no beat.
    """
    try:
        seconds, start = _RECORD.unpack((folder / str(pid)).read_bytes())
        return float(seconds) if start == _read_start(pid) else None
    except (OSError, struct.error):
        return None


def _read_start(pid: int) -> int:
    """Return when a process started, in ticks since the machine did."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[_START])
