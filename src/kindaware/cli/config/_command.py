"""`kindaware config`: the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kindaware.cli._shared_options import PrintsLine


def config(
    model_dir: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL_DIR", help="A model's directory, with its versions in it.", show_default=False
        ),
    ],
    write: Annotated[
        bool, typer.Option("--write", "-w", help="Write config.pbtxt; what the class doesn't declare stays.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 if config.pbtxt differs from the declarations.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Print the whole configuration instead of the difference.")
    ] = False,
    as_json: PrintsLine = False,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="Seconds that the import of model.py may take.")
    ] = 120.0,
) -> None:
    """Show config.pbtxt as the class in model.py declares it, and how the one that is there differs."""
    # Here, since the help does without protobuf.
    from kindaware.cli.config._session import run_config

    run_config(model_dir, write=write, check=check, full=full, as_json=as_json, timeout=timeout)
