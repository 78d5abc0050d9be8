"""`kindaware new`: its command line."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from kindaware.cli._shared_options import PrintsLine


class TaskName(str, Enum):
    """What --task takes."""

    tensor = "tensor"
    text = "text"
    stream = "stream"
    generate = "generate"
    sequence = "sequence"
    pipeline = "pipeline"


def new(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of the model, or the path of its directory.", show_default=False
        ),
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="What to serve: PACKAGE.MODULE:CALLABLE, a class or factory of a module or a function of "
            "tensors; or a model.py of the Python backend, to port.",
            show_default="a small model to change",
        ),
    ] = None,
    task: Annotated[
        TaskName | None,
        typer.Option(help="Which small model: what it takes and how it answers.", show_default="tensor"),
    ] = None,
    examples: Annotated[
        list[str] | None,
        typer.Option(
            "--example",
            metavar="[NAME=][TYPE:]SHAPE",
            help="An input of --from, without its batch dimension: 3x224x224, or IDS=int64:16.",
            show_default="found from the module",
        ),
    ] = None,
    is_forced: Annotated[
        bool, typer.Option("--force", help="Overwrite files that the command writes; keep all others.")
    ] = False,
    is_json: PrintsLine = False,
) -> None:
    """Make a model's directory: config.pbtxt, 1/model.py, a test, a client, and a README."""
    # Here, since the other commands have no use for it.
    from kindaware.cli.new._make import make
    from kindaware.cli.new._report import write_json, write_report

    directory = Path(os.path.normpath(name))
    made = make(
        directory if directory.name else directory.absolute(),
        source=source,
        task=None if task is None else task.value,
        examples=examples or (),
        is_forced=is_forced,
    )
    typer.echo(write_json(made) if is_json else write_report(made))
