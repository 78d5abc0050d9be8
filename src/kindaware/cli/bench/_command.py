"""`kindaware bench`: the command line."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Kind(str, Enum):
    """What --kind takes."""

    CPU = "CPU"


def bench(
    where: Annotated[
        str,
        typer.Argument(
            metavar="URL|MODEL_DIR",
            help="HOST:PORT of a running server (gRPC), http://HOST:PORT, or the directory of a model or of "
            "models, on which a server is started.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the model.", show_default="the only one")
    ] = "",
    concurrency: Annotated[
        str, typer.Option("--concurrency", "-c", metavar="N,N,...", help="Requests in flight.")
    ] = "1,2,4,8,16",
    rate: Annotated[
        str,
        typer.Option(
            metavar="R,R,...",
            help="Requests per second at random moments, in place of a number in flight.",
            show_default=False,
        ),
    ] = "",
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each load is measured.")] = 5.0,
    warmup_seconds: Annotated[float, typer.Option(min=0.1, help="Seconds of load before it.")] = 1.0,
    rows: Annotated[int, typer.Option("--rows", "-b", min=1, help="Rows of a request.")] = 1,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME=VALUE",
            help="As in kindaware infer; other inputs are random.",
            show_default=False,
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=3x224x224",
            help="Sizes of one row of an input whose dims have -1.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[
        str, typer.Option(help="Version of the model.", show_default="the server chooses")
    ] = "",
    kind: Annotated[
        Kind | None,
        typer.Option(help="Put every instance of a started server on the CPU.", show_default=False),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of a started server's model, such as kindaware.num_threads=2.",
            show_default=False,
        ),
    ] = None,
    http: Annotated[bool, typer.Option("--http", help="Ask a started server over HTTP.")] = False,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long answers may take.")] = 60.0,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png", help="Draw latency over throughput.", show_default=False, dir_okay=False
        ),
    ] = None,
    is_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")] = False,
) -> None:
    """Measure a model's throughput and latency on a server under load."""
    # Here, since `kindaware serve` imports this file too, and has no use for numpy or a client.
    from kindaware.cli.bench._options import parse_loads, parse_settings
    from kindaware.cli.bench._session import Measurement, run_sweep
    from kindaware.cli.bench._sweep import Duration

    measurement = Measurement(
        where=where,
        model=model,
        version=version,
        settings=parse_settings(setting or ()),
        kind=None if kind is None else kind.value,
        over_http=http,
        inputs=tuple(inputs or ()),
        shapes=tuple(shape or ()),
        rows=rows,
        loads=parse_loads(concurrency, rate),
        duration=Duration(seconds, warmup_seconds, timeout),
    )
    run_sweep(measurement, plot=plot, is_json=is_json)
