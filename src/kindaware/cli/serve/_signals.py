"""Ctrl-C and SIGTERM: the first one ends the server, a second one does not wait for what is in flight."""

from __future__ import annotations

import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopServing(BaseException):
    """The user, or the system, asked the server to stop."""


class StopSignals:
    """Turns the first signal into a `StopServing`, and remembers whether another one has come."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._is_repeated = False

    def install(self) -> None:
        """Take the signals from now on."""
        self._handle_with(self._stop)

    @property
    def is_interrupt(self) -> bool:
        """Whether it is Ctrl-C, by a person who waits, and no supervisor's SIGTERM."""
        return self._first == signal.SIGINT

    def are_repeated(self) -> bool:
        """Return whether a second signal has come."""
        return self._is_repeated

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._first = number
        self._handle_with(self._hurry)
        raise StopServing

    def _hurry(self, number: int, frame: FrameType | None) -> None:
        self._is_repeated = True

    def _handle_with(self, handler: object) -> None:
        for each in _SIGNALS:
            signal.signal(each, handler)  # type: ignore[arg-type]  # a method
