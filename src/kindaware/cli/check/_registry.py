"""The rules, by their id, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from kindaware.cli.check._subject import Subject

Level = Literal["error", "warning", "hint"]
LEVELS: tuple[Level, ...] = ("error", "warning", "hint")
"""`error`: a server doesn't load the model, or it answers wrongly. `warning`: it works, and probably not as
it was meant. `hint`: it could be better."""

Stage = Literal["files", "run", "machine"]
"""When a rule is asked: before the model runs, after that, and in any case."""


@dataclass(frozen=True)
class Found:
    """What a rule has found.

    Attributes:
        text: what is wrong.
        remedy: what to do about it.
        line: where, from 1 on; 0 is the file as a whole.
        file: where; None is config.pbtxt.
        level: in place of the rule's own.
    """

    text: str
    remedy: str
    line: int = 0
    file: Path | None = None
    level: Level | None = None


Find = Callable[["Subject"], Iterator[Found]]


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes:
        id: such as `KA204`; the first digit is the rule's group.
        level: of what it finds, unless that says another.
        summary: what it looks for, for the documentation.
        stage: when it is asked.
        find: yields what it finds.
    """

    id: str
    level: Level
    summary: str
    stage: Stage
    find: Find


@dataclass(frozen=True)
class Finding:
    """What a rule has found in a model, for the report."""

    level: Level
    rule: str
    file: Path
    line: int
    text: str
    remedy: str


RULES: dict[str, Rule] = {}


def rule(id_: str, level: Level, summary: str, *, stage: Stage = "files") -> Callable[[Find], Find]:
    """Register a function as a rule."""

    def register(find: Find) -> Find:
        assert id_ not in RULES, f"{id_} is taken"
        RULES[id_] = Rule(id_, level, summary, stage, find)
        return find

    return register


def apply_rules(subject: Subject, stage: Stage) -> list[Finding]:
    """Return what the rules of a stage find."""
    return [
        Finding(
            found.level or one.level,
            one.id,
            found.file or subject.config_file,
            found.line,
            found.text,
            found.remedy,
        )
        for one in sorted(RULES.values(), key=lambda one: one.id)
        if one.stage == stage
        for found in one.find(subject)
    ]
