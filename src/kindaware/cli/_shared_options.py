"""Options that several commands have: the same words mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="NAME=VALUE",
        help="As in kindaware infer; other inputs are random.",
        show_default=False,
    ),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=3x224x224",
        help="Sizes of one row of an input whose dims have -1.",
        show_default=False,
    ),
]
OwnSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of a started server's model, such as kindaware.num_threads=2.",
        show_default=False,
    ),
]
HealWindow = Annotated[
    float, typer.Option(min=1, metavar="SECONDS", help="The time in which heals are counted.")
]
HangSeconds = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        metavar="SECONDS",
        help="How long a call of a model's code may take; then its process is killed.",
        show_default="any time",
    ),
]
OutputFolder = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FOLDER", help="Where to write the files.", show_default=False),
]
Overwrites = Annotated[bool, typer.Option("--force", help="Overwrite these files; others in FOLDER stay.")]
PrintsDocument = Annotated[bool, typer.Option("--json", help="Print one document of JSON.")]
PrintsLine = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]
PrintsEvents = Annotated[
    bool, typer.Option("--json", help="Print a line of JSON for each event, and no text.")
]
