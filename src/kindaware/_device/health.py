"""Whether an instance's device still works, and the release of memory after an error."""

from __future__ import annotations

from logging import Logger

from kindaware._device.runtime import Runtime, is_out_of_memory
from kindaware._errors import KindAwareError, describe, format_traceback, message, release_frames


class Health:
    """Whether a device is usable, judged by the errors that hooks raise.

    Args:
        runtime: the runtime of the device.
        model: name of the model, for messages.
        logger: gets one record when the device has failed.

    Attributes:
        fault: description of the error that left the device unusable; None while it works.
    """

    def __init__(self, runtime: Runtime, model: str, logger: Logger) -> None:
        self.fault: str | None = None
        self._runtime = runtime
        self._model = model
        self._logger = logger

    def note_fault(self, error: BaseException) -> bool:
        """Return whether the error leaves the device unusable; record and log the first such error.

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
        """Return the message that every client gets after a fault."""
        return message(
            f"model {self._model!r}",
            expected="a working device",
            got=f"{self._runtime.device} after {self.fault}",
            remedy="unload and load the model, or restart the server: its process has lost the device",
        )

    def caught(self, error: Exception | SystemExit) -> Exception:
        """Process an error that `forward` raised, and return one that references no tensors.

        After an out-of-memory error, memory is released so that a smaller batch may fit; see `recover`.
        """
        # A library that calls sys.exit must not end the stub: the server would not start another.
        if isinstance(error, SystemExit):
            replacement = KindAwareError(f"forward ended the process: SystemExit({error.code!r})")
            replacement.__cause__ = error
            return replacement
        # Waiting for the device may raise what the device failed with; that error is the one to report.
        try:
            self.recover(error)
        except Exception as other:
            error = other
        self.note_fault(error)
        return error

    def recover(self, error: BaseException) -> None:
        """Release the tensors that a hook's error references, and cached memory if memory ran out.

        Sync:
            Host with stream, if memory ran out.
        """
        release_frames(error)
        # Frames first, since the cache only holds what no tensor uses; the wait, since the stream may use it.
        if is_out_of_memory(error):
            self._runtime.wait()
            self._runtime.release_memory()
