"""The `kindaware` command. What it needs beyond the library itself is imported when it runs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command, and exit with its status.

    Args:
        argv: the arguments; by default those of the process.
    """
    if importlib.util.find_spec("typer") is None:
        sys.exit("kindaware: expected typer, got no such package; pip install typer rich")
    try:
        from kindaware.cli._app import run

        run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:  # while the commands are imported, which takes a second
        print("kindaware: interrupted", file=sys.stderr)
        sys.exit(130)
