"""Which of the user's hooks an error comes from, and the report of it: first where, then the traceback."""

from __future__ import annotations

import contextlib
import functools
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from kindaware._errors import UnreadableError, attribute_of, describe
from kindaware._tracebacks import format_traceback, leaves_of, ungrouped

Hook = TypeVar("Hook", bound=Callable[..., Any])

_LIBRARY = str(Path(__file__).parents[1])
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_BLAMED = "_kindaware_hook"


def blame(error: BaseException, name: str) -> None:
    """Note on an error which hook has raised it; the same object may come from another hook later."""
    with contextlib.suppress(BaseException):  # of an exception with slots, or one that computes its __dict__
        error.__dict__[_BLAMED] = name


def blamed(name: str, hook: Hook) -> Hook:
    """Return the hook such that what it raises is known to come from it.

    Args:
        name: of the hook.
        hook: the user's function, with `def`.
    """

    @functools.wraps(hook)
    def call(*args: Any, **named: Any) -> Any:
        try:
            return hook(*args, **named)
        except BaseException as error:
            blame(error, name)
            raise

    return call  # type: ignore[return-value]  # of the same signature


def hook_of(error: BaseException, default: str) -> str:
    """Return the name of the hook that an error comes from; the default where no other is blamed."""
    for leaf in (error, *leaves_of(error)):
        # Not the attribute: a class may answer for every name.
        notes = attribute_of(leaf, "__dict__")
        name = notes.get(_BLAMED) if isinstance(notes, dict) else None
        if isinstance(name, str):
            return name
    return default


def report(error: BaseException) -> str:
    """Return where in the user's code an error was raised and what it says, then the user's traceback.

    Frames of this library are left out; of an error that was raised in none of the user's frames, all of its
    frames are kept.
    """
    try:
        return f"{headline(error)}\n{_user_traceback(error)}"
    except BaseException as other:  # of an attribute of the error's
        return str(UnreadableError(other))


def headline(error: BaseException) -> str:
    """Return one line such as `model.py:10, in forward: RuntimeError: ...`."""
    error = ungrouped(error)
    frame = _user_frame(error)
    where = "" if frame is None else f"{Path(frame.filename).name}:{frame.lineno}, in {frame.name}: "
    return where + describe(error).partition("\n")[0]


def place_of(error: BaseException) -> str:
    """Return the user's line that raised an error, such as `/models/net/1/model.py:10, in forward`, or ""."""
    frame = _user_frame(ungrouped(error))
    return "" if frame is None else f"{frame.filename}:{frame.lineno}, in {frame.name}"


def _user_frame(error: BaseException) -> traceback.FrameSummary | None:
    """Return the innermost frame of the user's own files; of installed packages if there is none."""
    return _innermost(traceback.extract_tb(error.__traceback__))


def where(frame: FrameType | None) -> str:
    """Return the line of the user's own that a running frame has come to; empty if there is none."""
    own = [] if frame is None else _own(traceback.extract_stack(frame))
    return f"{own[-1].filename}:{own[-1].lineno}, in {own[-1].name}" if own else ""


def _innermost(stack: traceback.StackSummary) -> traceback.FrameSummary | None:
    frames = [one for one in stack if not _is_library(one.filename)]
    own = _own(frames)
    return own[-1] if own else frames[-1] if frames else None


def _own(frames: Iterable[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """Return the frames that are neither of this library nor of an installed one."""
    others = (_LIBRARY, *_INSTALLED, "<")
    return [one for one in frames if not one.filename.startswith(others)]


def _is_library(filename: str) -> bool:
    return filename.startswith(_LIBRARY)


def _user_traceback(error: BaseException) -> str:
    try:
        printed = traceback.TracebackException.from_exception(error)
        _drop_library(printed)
        return "".join(printed.format())
    except BaseException:  # of a __str__ or __repr__ of the user's
        return format_traceback(error)


def _drop_library(printed: traceback.TracebackException) -> None:
    """Take this library's frames out of a traceback, of what caused it, and of the errors of a group."""
    kept = [frame for frame in printed.stack if not _is_library(frame.filename)]
    if kept:
        printed.stack[:] = kept
    linked = [printed.__cause__, printed.__context__, *(getattr(printed, "exceptions", None) or ())]
    for one in linked:
        if one is not None:
            _drop_library(one)
