"""Whether an instance's device still works, and the release of memory after an error."""

from __future__ import annotations

from collections.abc import Callable
from logging import Logger

from kindaware._device.runtime import Runtime, is_out_of_memory
from kindaware._errors import ProcessExitError, RequestError, UnreadableError, describe, message
from kindaware._hooks.disclosure import disclose, new_error_id
from kindaware._tracebacks import format_traceback, release_frames, ungrouped


class Health:
    """Whether a device is usable, judged by the errors that hooks raise.

    Args:
        runtime: the runtime of the device.
        model: name of the model, for messages.
        logger: gets one record when the device has failed.
        detail: what clients may read of the error; see `disclose`.

    Attributes:
        fault: what clients may read of the error that left the device unusable; None while it works.
        on_fault: called at the first such error, on the thread that saw it; None for nothing.
    """

    def __init__(self, runtime: Runtime, model: str, logger: Logger, detail: str = "message") -> None:
        self.fault: str | None = None
        self.on_fault: Callable[[], None] | None = None
        self._detail = detail
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
            error_id = new_error_id()
            self.fault = disclose(error, self._detail, error_id)
            text, traceback = self._describe(describe(error)), format_traceback(error)
            self._logger.error("error %s: %s\n%s", error_id, text, traceback)
            if self.on_fault is not None:
                self.on_fault()
        return True

    def unavailable(self) -> str:
        """Return the message that every client gets after a fault."""
        return self._describe(str(self.fault))

    def _describe(self, error: str) -> str:
        return message(
            f"model {self._model!r}",
            expected="a working device",
            got=f"{self._runtime.device} after {error}",
            remedy="unload and load the model, or restart the server: its process has lost the device",
        )

    def caught(self, error: BaseException) -> Exception:
        """Process an error that a hook raised, and return it as an exception; see `recover`.

        A group of errors is reduced to what it is about. The rows that a RequestError names are read after a
        wait for the device. An error that would end the process, such as
        SystemExit of a library that calls sys.exit, becomes one of the request: the server would not start
        another stub. Nothing is raised: one that can't be looked at becomes an `UnreadableError`.
        """
        try:
            error = ungrouped(error)
            try:
                # Its mask may be a copy to the host that is only queued.
                if isinstance(error, RequestError) and error.is_unsettled:
                    self._runtime.wait_for_host_memory()
                    error.settle()
                self.recover(error)
            except Exception as other:
                error = other
            self.note_fault(error)
            return as_exception(error)
        except BaseException as other:
            return UnreadableError(other)

    def recover(self, error: BaseException) -> None:
        """If memory ran out, release the tensors that a hook's error references, and cached memory.

        Sync:
            Host with stream, if memory ran out.
        """
        if is_out_of_memory(error):
            # Frames first: the cache only holds what no tensor uses. The wait: the stream may still use it.
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
