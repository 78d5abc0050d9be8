"""`kindaware infer`: one request to a running server."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from kindaware.cli._token import Token, TokenFile, read_token


def infer(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.", show_default=False)],
    url: Annotated[
        str, typer.Option(metavar="URL", help="HOST:PORT of gRPC, or http://HOST:PORT.")
    ] = "localhost:8001",
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME=VALUE",
            help="A .npy file, a picture, JSON or text; omit the name if there is only one input.",
            show_default=False,
        ),
    ] = None,
    is_random: Annotated[bool, typer.Option("--random", help="Random values for the other inputs.")] = False,
    outputs: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", metavar="NAME", help="An output to request.", show_default="all"),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="K", help="List the K best classes of each row.", show_default="5 with --labels"
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Names of the classes, one per line.", show_default=False),
    ] = None,
    sequence_id: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Sequence that the request belongs to.", show_default=False),
    ] = None,
    is_start: Annotated[bool, typer.Option("--sequence-start", help="This is its first request.")] = False,
    is_end: Annotated[bool, typer.Option("--sequence-end", help="This is its last request.")] = False,
    is_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each answer.")] = False,
    version: Annotated[
        str, typer.Option(metavar="N", help="Version of the model.", show_default="the server chooses")
    ] = "",
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long one answer may take.")
    ] = 60.0,
    token: Token = None,
    token_file: TokenFile = None,
) -> None:
    """Send one request to a running server, and print the answer; a stream is printed as it comes."""
    # Here, since `kindaware serve` imports this file too, and has no use for a client.
    from kindaware._errors import OptionError
    from kindaware.cli._outputs import read_text, refuse_no_classes, write_json, write_outputs
    from kindaware.cli._served_models import refuse_missing, refuse_no_sequence, unknown_named
    from kindaware.cli._values import read_inputs, read_labels
    from kindaware.client import ModelClient
    from kindaware.client._transport import Transport

    if sequence_id is None and (is_start or is_end):
        option = "--sequence-start" if is_start else "--sequence-end"
        raise OptionError.of(
            option, expected="--sequence-id N with it", got="none", remedy=f"add it, or leave {option} out"
        )
    token = read_token(token, token_file)
    names = read_labels(labels)
    with ModelClient(url, model, version=version, timeout_seconds=timeout, token=token) as client:
        with closing(Transport(url, timeout, token)) as transport, unknown_named(transport, model, timeout):
            metadata = client.metadata
        values = read_inputs(inputs or (), metadata.inputs, random_rest=is_random)
        refuse_missing(model, metadata.inputs, values)
        if sequence_id is None:
            refuse_no_sequence(metadata)
        answers = (
            client.stream if metadata.decoupled else lambda *args, **options: [client.infer(*args, **options)]
        )
        sequence: dict[str, Any] = {}
        if sequence_id is not None:
            sequence = {"sequence_id": sequence_id, "sequence_start": is_start, "sequence_end": is_end}
        num_best = (5 if labels else 0) if top is None else top
        refuse_no_classes(num_best, [one for one in metadata.outputs if not outputs or one.name in outputs])
        # In a terminal the pieces of a text are joined; in a pipe each has its line.
        is_joined, is_open = metadata.decoupled and sys.stdout.isatty(), False
        for found in answers(values, outputs=outputs, **sequence):
            text = read_text(found) if metadata.decoupled else None
            if is_json:
                typer.echo(write_json(found))
            elif text is not None:
                typer.echo(text, nl=not is_joined)
                is_open = is_joined
            else:
                typer.echo(write_outputs(found, top=num_best, labels=dict.fromkeys(found, names)))
        if is_open:
            typer.echo()
