"""`kindaware size`: the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from kindaware.cli._shared_options import Inputs, OwnSettings, PrintsDocument, Shapes
from kindaware.cli._token import Token, TokenFile, read_token


def size(
    where: Annotated[
        str,
        typer.Argument(
            metavar="URL|MODEL_DIR",
            help="HOST:PORT of a running server (gRPC), http://HOST:PORT, or the directory of a model or of "
            "models, on which a server is started.",
            show_default=False,
        ),
    ],
    rate: Annotated[
        str,
        typer.Option(metavar="R,R,...", help="Requests per second of all clients.", show_default=False),
    ],
    p99_ms: Annotated[
        float,
        typer.Option(
            "--p99-ms",
            min=0.001,
            metavar="MS",
            help="Latency that 99 % of them may have at most.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the model.", show_default="the only one")
    ] = "",
    instances: Annotated[
        str,
        typer.Option(
            metavar="N,N,...",
            help="Instances of a replica to compare, on a server that is started.",
            show_default="the configuration's",
        ),
    ] = "",
    cost_per_hour: Annotated[
        float, typer.Option(min=0.0, metavar="COST", help="Of a replica.", show_default=False)
    ] = 0.0,
    inputs: Inputs = None,
    shape: Shapes = None,
    setting: OwnSettings = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long each load is measured.")
    ] = 3.0,
    verify: Annotated[
        float,
        typer.Option(
            "--verify-seconds",
            min=0.0,
            metavar="SECONDS",
            help="Then send a replica's part of the load for so long, and compare; 0 leaves it out.",
        ),
    ] = 0.0,
    token: Token = None,
    token_file: TokenFile = None,
    is_json: PrintsDocument = False,
) -> None:
    """Say how many instances and replicas a load needs, and what they cost, from measured times."""
    # Here, since the help does without numpy and a client.
    from kindaware._server.config_changes import parse_own_settings
    from kindaware.cli.bench._options import parse_loads
    from kindaware.cli.size._plan import Goal
    from kindaware.cli.size._session import Question, run_size

    run_size(
        Question(
            where=where,
            model=model,
            settings=parse_own_settings(setting or ()),
            inputs=tuple(inputs or ()),
            shapes=tuple(shape or ()),
            instances=instances,
            seconds=seconds,
            verify_seconds=verify,
            token=read_token(token, token_file),
        ),
        [Goal(load.rate, p99_ms, cost_per_hour) for load in parse_loads("", rate)],
        is_json=is_json,
    )
