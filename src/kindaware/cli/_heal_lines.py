"""Deaths and heals of models: a line of text each for a person, or of JSON for a program."""

from __future__ import annotations

from typing import Any, Protocol


class WriteEvent(Protocol):
    """Prints one event of a program's."""

    def __call__(self, event: str, **fields: Any) -> None:
        """Print it."""


class Say(Protocol):
    """Prints one line for a person."""

    def __call__(self, text: str, level: str = "info") -> None:
        """Print it."""


class HealText:
    """Lines for a person.

    Args:
        say: prints one.
    """

    def __init__(self, say: Say) -> None:
        self._say = say

    def died(self, model: str, reason: str) -> None:
        """Print a line."""
        self._say(f"{model}: {reason}", "warning")

    def healed(self, model: str, seconds: float) -> None:
        """Print a line."""
        self._say(f"{model}: ready again after {seconds:.1f} s", "warning")

    def not_healed(self, model: str, reason: str) -> None:
        """Print a line."""
        first = reason.partition("\n")[0]
        self._say(f"{model}: not loaded again: {first}", "error")

    def gave_up(self, model: str, reason: str) -> None:
        """Print a line."""
        self._say(f"given up: {reason}", "error")

    def blind(self, reason: str) -> None:
        """Print a line."""
        self._say(reason, "error")


class HealJson:
    """Events.

    Args:
        write: prints one.
    """

    def __init__(self, write: WriteEvent) -> None:
        self._write = write

    def died(self, model: str, reason: str) -> None:
        """Print the event."""
        self._write("died", model=model, reason=reason)

    def healed(self, model: str, seconds: float) -> None:
        """Print the event."""
        self._write("healed", model=model, seconds=round(seconds, 3))

    def not_healed(self, model: str, reason: str) -> None:
        """Print the event."""
        self._write("not_healed", model=model, error=reason)

    def gave_up(self, model: str, reason: str) -> None:
        """Print the event."""
        self._write("given_up", model=model, error=reason)

    def blind(self, reason: str) -> None:
        """Print the event of an error in the log."""
        self._write("log", level="error", source="kindaware", text=reason)
