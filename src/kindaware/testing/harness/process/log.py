"""The log of the simulated server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the server's log.

    Attributes:
        level: `INFO`, `WARNING`, `ERROR` or `VERBOSE`.
        text: as it was logged.
        filename: of the code that logged it, without directories; the server's own are C++.
        line: the line there.
        model: the model whose process it was.
    """

    level: str
    text: str
    filename: str
    line: int
    model: str

    def __str__(self) -> str:
        text = self.text.replace("\n", "\\n")
        return f'{self.level[0]} {self.filename}:{self.line}] "{text}"'


class ServerLog:
    """Lines in the order in which they were logged; from any thread."""

    def __init__(self) -> None:
        self.lines: list[LogLine] = []

    def add(self, level: str, text: str, filename: str, line: int, model: str) -> None:
        """Add a line."""
        self.lines.append(LogLine(level, text, filename, line, model))

    def text(self) -> str:
        """Return all lines."""
        return "".join(f"{line}\n" for line in self.lines)
