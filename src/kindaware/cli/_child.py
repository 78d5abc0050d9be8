"""Model code in a process of its own: whatever it does there, the command goes on."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

_START = """
import sys
sys.path[:] = [one for one in sys.path if one]  # the files of the working directory could hide modules
from kindaware.cli._child import main
main()
"""
_MOST_OUTPUT_BYTES = 2**16
_PR_SET_PDEATHSIG = 1
"""Source: Linux, prctl(2)."""
_FRAME = re.compile(r'^  File "(.+)", line (\d+) in (\w+)', re.MULTILINE)


@dataclass(frozen=True)
class Ended:
    """How such a process has ended.

    Attributes:
        result: what the function has returned; None if it didn't get so far.
        code: the exit code; negative is the number of the signal that killed it.
        is_late: whether it was killed since its time was over.
        output: what it has printed on standard output, the last 64 KiB of it.
        stack: where its threads were shortly before its time was over, or when a signal killed it: files,
            lines and functions, the innermost first.
    """

    result: dict[str, Any] | None
    code: int
    is_late: bool
    output: str
    stack: tuple[tuple[str, int, str], ...] = ()

    @property
    def end(self) -> str:
        """The end in words, for one that has no result."""
        if self.code < 0:
            return f"was killed by {signal.Signals(-self.code).name}"
        return f"ended with exit code {self.code}"


def run_apart(target: str, arguments: Mapping[str, Any], *, seconds: float) -> Ended:
    """Call a function in a new process, and end whatever that process has started.

    Args:
        target: the function, as `package.module:function`; it takes the arguments by keyword and returns a
            dict for JSON.
        arguments: values for JSON.
        seconds: how long it may take.
    """
    with (
        tempfile.TemporaryFile() as results,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        place = results.fileno()
        deadline = time.time() + seconds
        own = [target, json.dumps(dict(arguments)), str(place), str(deadline)]
        process = subprocess.Popen(
            [sys.executable, "-c", _START, *own],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            pass_fds=[place],
            start_new_session=True,
        )
        is_late = False
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            is_late = True
        finally:
            # The group, since a model may have started processes; its leader may have ended.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        written = _parse(_read(results))
        printed, complaints = _read(output, _MOST_OUTPUT_BYTES), _read(errors, _MOST_OUTPUT_BYTES)
    stack = [(file, int(line), name) for file, line, name in _FRAME.findall(complaints)]
    return Ended(written, process.returncode, is_late, printed, () if written else tuple(stack))


def _read(file: IO[bytes], most: int | None = None) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(0 if most is None else max(0, size - most))
    return file.read().decode(errors="replace")


def _parse(text: str) -> dict[str, Any] | None:
    """Return what was written; None if it was cut short."""
    try:
        result: dict[str, Any] = json.loads(text)
    except ValueError:
        return None
    return result


def main() -> None:
    """Call the function that the command line names; the new process's side of `run_apart`."""
    target, arguments, place, deadline = sys.argv[1:]
    # A command that is killed can't end this process.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    faulthandler.enable()
    faulthandler.dump_traceback_later(max(float(deadline) - time.time() - 0.5, 0.1))
    module, _, name = target.partition(":")
    result = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    with os.fdopen(os.dup(int(place)), "w") as file:
        json.dump(result, file)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that a model has left must not hold the process back.
    os._exit(0)
