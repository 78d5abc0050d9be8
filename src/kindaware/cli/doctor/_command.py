"""`kindaware doctor`: the command line."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one document of JSON.")] = False,
) -> None:
    """Say what this machine has for serving models, and what to do where something is missing."""
    # Here, since the help does without torch.
    from kindaware.cli.doctor._report import examine

    examine(as_json=as_json)
