"""Entries of a log that grows, with their further lines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from kindaware._server.keeper import CONTINUATION
from kindaware._server.log import Record, read_records


@dataclass(frozen=True)
class Entry:
    """One entry of the log.

    Attributes:
        raw: its lines, as they are in the log.
        record: what it says.
    """

    raw: str
    record: Record


class EntryReader:
    """Cuts the text of a growing log into entries: one is complete when the next begins."""

    def __init__(self) -> None:
        self._line = ""
        self._lines: list[str] = []

    def feed(self, text: str) -> list[Entry]:
        """Return the entries that are complete with this text."""
        *lines, self._line = (self._line + text).split("\n")
        entries = []
        for line in lines:
            if not line.startswith(CONTINUATION):
                entries += self.flush()
            self._lines.append(line)
        return entries

    def flush(self) -> list[Entry]:
        """Return what has come as complete lines, for the log does not grow at present."""
        lines, self._lines = self._lines, []
        if not lines:
            return []
        return [Entry("\n".join(lines) + "\n", next(read_records("\n".join(lines))))]


class EntryLines(ABC):
    """Turns the text of a growing log into what is shown of it, entry by entry."""

    def __init__(self) -> None:
        self._reader = EntryReader()

    def feed(self, text: str) -> str:
        """Return what to show of the next piece of a log; with an empty one, of what has come before."""
        return "".join(map(self.write, self._reader.feed(text) if text else self._reader.flush()))

    def close(self) -> str:
        """Return the rest."""
        return "".join(map(self.write, self._reader.flush()))

    @abstractmethod
    def write(self, entry: Entry) -> str:
        """Return an entry as it is shown; empty for one that is left out."""
