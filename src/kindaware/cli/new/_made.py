"""What `kindaware new` has made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Made:
    """What was made.

    Attributes:
        directory: of the model.
        about: what the model does.
        files: names by directory.
        findings: what was found out, in lines.
        questions: what is left to do by hand.
        commands: what to type next.
    """

    directory: Path
    about: str
    files: dict[Path, list[str]]
    findings: list[str]
    questions: list[str]
    commands: list[str]
