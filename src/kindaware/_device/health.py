"""Whether an instance's device still works, and what is released after an error."""

from __future__ import annotations

from logging import Logger

from kindaware._device.runtime import Runtime, is_out_of_memory
from kindaware._errors import (
    ProcessExitError,
    describe,
    format_traceback,
    message,
    release_frames,
    ungrouped,
)


class Health:
    """The state of a device after the errors that hooks have raised.

    Args:
        runtime: the device.
        model: the model's name, for messages.
        logger: told once when the device has failed.

    Attributes:
        fault: the error after which the device is unusable; None while it works.
    """

    def __init__(self, runtime: Runtime, model: str, logger: Logger) -> None:
        self.fault: str | None = None
        self._runtime = runtime
        self._model = model
        self._logger = logger

    def note_fault(self, error: BaseException) -> bool:
        """Return whether the error leaves the device unusable; the first such error is kept and logged.

        Sync:
            May wait for the device; see `Runtime.is_fault`.
        """
        if not self._runtime.is_fault(error):
            return False
        if self.fault is None:
            self.fault = describe(error)
            self._logger.error("%s\n%s", self.unavailable(), format_traceback(error))
        return True

    def unavailable(self) -> str:
        """Return what every client reads after a fault."""
        return message(
            f"model {self._model!r}",
            expected="a working device",
            got=f"{self._runtime.device} after {self.fault}",
            remedy="unload and load the model, or restart the server: its process has lost the device",
        )

    def caught(self, error: BaseException) -> Exception:
        """Return what `forward` raised, as an exception that says so, after `recover`.

        A group of errors is reduced to what it is about. One that would end the process (SystemExit, a panic
        of an extension module) becomes an error of the request.
        """
        error = ungrouped(error)
        try:
            self.recover(error)
        except Exception as other:  # of the device
            error = other
        self.note_fault(error)
        return as_exception(error)

    def recover(self, error: BaseException) -> None:
        """Release the tensors that a hook's error holds and cached memory, when memory ran out.

        Sync:
            Host with stream, when memory ran out.
        """
        if is_out_of_memory(error):
            release_frames(error)
            self._runtime.wait()
            self._runtime.release_memory()


def as_exception(error: BaseException) -> Exception:
    """Return an error that would end the process as one of a request, and any other as it is."""
    if isinstance(error, Exception):
        return error
    ended = ProcessExitError(f"{describe(error)}, which would end the process")
    ended.__cause__ = error
    ended.__traceback__ = error.__traceback__
    return ended
