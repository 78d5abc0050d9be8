"""`kindaware doctor`: the command line."""

from __future__ import annotations

from kindaware.cli._shared_options import PrintsDocument


def doctor(
    as_json: PrintsDocument = False,
) -> None:
    """Say what this machine has for serving models, and what to do where something is missing."""
    # Here, since the help does without torch.
    from kindaware.cli.doctor._report import examine

    examine(as_json=as_json)
