"""What `kindaware doctor` prints."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator

import typer

from kindaware.cli._hanging import hang
from kindaware.cli._machine import Machine
from kindaware.cli._reporting import FAILED, shows_tracebacks
from kindaware.cli.doctor._checks import CHECKS, Line

_MARK_WIDTH = len("warning")
_COLOURS = {
    "ok": typer.colors.GREEN,
    "note": typer.colors.BLUE,
    "warning": typer.colors.YELLOW,
    "error": typer.colors.RED,
}


def examine(*, as_json: bool) -> None:
    """Print all checks of this machine.

    Raises:
        typer.Exit: with 1, if something prevents serving.
    """
    lines = list(look(Machine()))
    if as_json:
        found = [
            {"name": one.name, "status": one.status, "text": one.text, "remedy": one.remedy or None}
            for one in lines
        ]
        typer.echo(json.dumps({"checks": found, "can_serve": can_serve(lines)}, ensure_ascii=False))
    else:
        width = max(len(one.name) for one in lines)
        column = width + _MARK_WIDTH + 4
        for one in lines:
            mark = typer.style(one.status.ljust(_MARK_WIDTH), fg=_COLOURS[one.status])
            typer.echo(f"{mark}  {one.name.ljust(width)}  {hang(one.text, column)}")
            if one.remedy:
                typer.echo(f"{' ' * column}-> {hang(one.remedy, column + len('-> '))}")
        typer.echo("")
        typer.echo(_summary(lines))
    if not can_serve(lines):
        raise typer.Exit(FAILED)


def look(machine: Machine) -> Iterator[Line]:
    """Yield what the checks find; one that fails itself is a line as well."""
    for one in CHECKS:
        try:
            yield from one(machine)
        except Exception as error:
            if shows_tracebacks.get():
                traceback.print_exception(error)
            yield Line(
                one.__name__,
                "error",
                f"{type(error).__name__}: {error}",
                "run it with --debug, and report it",
            )


def can_serve(lines: list[Line]) -> bool:
    """Return whether nothing prevents serving."""
    return not any(one.status == "error" for one in lines)


def _summary(lines: list[Line]) -> str:
    broken = [one.name for one in lines if one.status == "error"]
    if broken:
        return f"models can't be served here: see {', '.join(broken)}"
    doubtful = [one.name for one in lines if one.status == "warning"]
    return (
        f"models can be served here; see {', '.join(doubtful)}" if doubtful else "models can be served here"
    )
