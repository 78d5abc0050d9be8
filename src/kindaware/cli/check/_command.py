"""`kindaware check`: the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kindaware.cli._kind import Kind
from kindaware.cli._shared_options import PrintsDocument


def check(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL_DIR|REPOSITORY", help="A model's directory, or a repository.", show_default=False
        ),
    ],
    kind: Annotated[
        Kind | None,
        typer.Option(help="Kind of the instances.", show_default="the configuration's"),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Also exit with 1 for warnings.")] = False,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE", help="A rule to skip, such as KA206.", show_default=False),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT:3,224,224",
            help="Sizes of one row of an input whose dims have -1.",
            show_default="224 for a picture's sides, 8 for numbers, 1 for texts",
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Override a parameter of the configuration.", show_default=False
        ),
    ] = None,
    run: Annotated[bool, typer.Option("--run/--no-run", help="Load the model and send a request.")] = True,
    timeout: Annotated[
        float,
        typer.Option(min=1, metavar="SECONDS", help="Seconds that loading a model and its request may take."),
    ] = 300.0,
    as_json: PrintsDocument = False,
) -> None:
    """Say what is wrong with a model, without a server: load it, send it a request, and read its files."""
    # Here, since `kindaware serve` imports this file too, and has no use for the harness.
    from kindaware.cli.check._session import check_models

    check_models(
        path,
        kind=None if kind is None else kind.value,
        strict=strict,
        ignored=ignore or (),
        shapes=shape or (),
        parameters=parameter or (),
        run=run,
        timeout=timeout,
        as_json=as_json,
    )
