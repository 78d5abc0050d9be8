"""What a harness raises, and Python errors as the server's stub formats them."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from kindaware._errors import KindAwareError, message
from kindaware.testing.stand_in import Failure, TritonError

_HARNESS = f"{Path(__file__).resolve().parent}/"
_IMPORT_HOOK = f"{Path(__file__).resolve().parent / 'process' / 'modules.py'}"
"""In place of Python's own `__import__`, so between a model's line and what it imports."""
_STAND_IN = f"{Path(__file__).resolve().parents[1] / 'stand_in'}/"


class InferenceError(KindAwareError):
    """A request failed; raised by a harness with `raise_errors=True`.

    Args:
        failure: what the client gets.

    Attributes:
        error: the `TritonError`, with `.message()` and `.code()`.
        message: its text.
        code: the name of its code, such as `INTERNAL`.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.message} [{failure.code}]")
        self.error = triton_error(failure)
        self.message = failure.message
        self.code = failure.code


class ModelLoadError(KindAwareError):
    """A model does not load; what its own code raised is the cause, and comes first in the traceback.

    Args:
        model_name: the model.
        version: its version.
        text: the reason, in the server's words.
        code: how the server names the code in its text.

    Attributes:
        model_name: the model.
        reason: the text without the server's introduction.
    """

    def __init__(self, model_name: str, version: str, text: str, code: str = "Internal") -> None:
        super().__init__(
            f"load failed for model '{model_name}': version {version} is at UNAVAILABLE state: "
            f"{code}: {text};"
        )
        self.model_name = model_name
        self.reason = text


class HarnessError(KindAwareError):
    """The harness was asked for something that it, or a server, can't do."""

    @classmethod
    def of(cls, subject: str, *, expected: str, got: str, remedy: str) -> HarnessError:
        """Build the error from its four parts."""
        return cls(message(subject, expected=expected, got=got, remedy=remedy))


def triton_error(failure: Failure) -> TritonError:
    """Return the object that `Result.error` holds."""
    return TritonError(failure.message, getattr(TritonError, failure.code))


def describe(error: BaseException) -> str:
    """Format an error that left a model's code as pybind11 does: type, text, and frames, innermost first.

    pybind11 takes the frame where the error arose and its callers, not the traceback: a coroutine or
    generator that has ended has no caller. Frames of the stand-in, which is C++ in a server, are left out.

    Source: pybind11 `cast.h`, error_string.
    """
    text = f"{type(error).__name__}: {str(error) or '<EMPTY MESSAGE>'}"
    frames = _frames(error.__traceback__)
    if not frames:
        return text
    return text + "\n\nAt:\n" + "".join(f"  {frame}\n" for frame in frames)


def from_model_code(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame of the model's code on; all of it where there is none."""
    own = traceback
    while own is not None and own.tb_frame.f_code.co_filename.startswith((_HARNESS, "<frozen importlib")):
        own = own.tb_next
    return own or traceback


def _frames(traceback: TracebackType | None) -> list[str]:
    """Format the model's frames, innermost first, with the line that each executed last, as pybind11 does."""
    frame = None
    while traceback is not None:
        frame, traceback = traceback.tb_frame, traceback.tb_next
    found: list[str] = []
    while frame is not None:
        filename = frame.f_code.co_filename
        if filename.startswith(_HARNESS) and filename != _IMPORT_HOOK:
            break
        if not filename.startswith((_STAND_IN, _IMPORT_HOOK)):
            found.append(f"{filename}({frame.f_lineno}): {frame.f_code.co_name}")
        frame = frame.f_back
    while found and found[-1].startswith("<frozen importlib"):
        del found[-1]  # of the import of model.py
    return found
