"""`kindaware bench`: the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kindaware.cli._kind import ServerKind
from kindaware.cli._shared_options import Inputs, OwnSettings, Shapes
from kindaware.cli._token import Token, TokenFile, read_token


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
        str,
        typer.Option(
            "--concurrency",
            "-c",
            metavar="N,N,...",
            help="Requests in flight.",
            show_default="1,2,4,8,16; with --compare or --tune 8",
        ),
    ] = "",
    rate: Annotated[
        str,
        typer.Option(
            metavar="R,R,...",
            help="Requests per second at random moments, instead of a number in flight.",
            show_default=False,
        ),
    ] = "",
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="How long each measurement takes.",
            show_default="5; with --compare or --tune 2",
        ),
    ] = None,
    warmup_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="Seconds of load before it.",
            show_default="1; with --compare or --tune 0.3",
        ),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", "-b", min=1, metavar="N", help="Rows per request.")] = 1,
    inputs: Inputs = None,
    shape: Shapes = None,
    version: Annotated[
        str, typer.Option(metavar="N", help="Version of the model.", show_default="the server chooses")
    ] = "",
    kind: Annotated[
        ServerKind | None,
        typer.Option(
            metavar="CPU", help="Put every instance of a started server on the CPU.", show_default=False
        ),
    ] = None,
    setting: OwnSettings = None,
    token: Token = None,
    token_file: TokenFile = None,
    http: Annotated[bool, typer.Option("--http", help="Use HTTP for a started server.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long answers may take.")
    ] = 60.0,
    compare: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="Also measure WHAT, taking turns: 'KEY=VALUE ...' is the same model with other settings, "
            "or a MODEL_DIR, a URL, or the name of another model.",
            show_default=False,
        ),
    ] = "",
    rounds: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Turns of each with --compare; at least 6 to show a difference.",
            show_default="10",
        ),
    ] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="Search for the model's fastest settings on this machine.")
    ] = False,
    latency_ms: Annotated[
        float | None,
        typer.Option(
            min=0.001, metavar="MS", help="Highest p95 that --tune accepts.", show_default="no limit"
        ),
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="PART",
            help="How far outputs may be off those of FP32, relative to their largest value.",
            show_default="0.05",
        ),
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="PART",
            help="Lowest share of rows with the same best class as FP32.",
            show_default="0.99",
        ),
    ] = None,
    budget_seconds: Annotated[
        float | None,
        typer.Option(min=1.0, metavar="SECONDS", help="How long --tune may take.", show_default="300"),
    ] = None,
    tries: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            metavar="'KEY=V|V'",
            help="Values of a setting for --tune to try, instead of its own choice.",
            show_default=False,
        ),
    ] = None,
    is_approved: Annotated[
        bool, typer.Option("--yes", "-y", help="Write what --tune finds into config.pbtxt.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png", help="Draw latency over throughput.", show_default=False, dir_okay=False
        ),
    ] = None,
    is_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Measure a model's throughput and latency on a server under load."""
    # Here, since `kindaware serve` imports this file too, and has no use for numpy or a client.
    from kindaware._server.config_changes import parse_own_settings
    from kindaware.cli.bench._compare import run_comparison
    from kindaware.cli.bench._options import check_modes, parse_loads
    from kindaware.cli.bench._session import Measurement, run_sweep
    from kindaware.cli.bench._sweep import Duration
    from kindaware.cli.bench.tune._axes import parse_axes
    from kindaware.cli.bench.tune._session import Goal, run_tune

    tune_only = {
        "--latency-ms": latency_ms is not None,
        "--max-error": max_error is not None,
        "--min-agreement": min_agreement is not None,
        "--budget-seconds": budget_seconds is not None,
        "--try": bool(tries),
        "--yes": is_approved,
    }
    check_modes(
        compare=compare,
        tune=tune,
        concurrency=concurrency,
        rate=rate,
        plot=plot is not None,
        tune_only=tune_only,
        rounds=rounds is not None,
    )
    in_turns = bool(compare) or tune
    default_loads, default_seconds, default_warmup = ("8", 2.0, 0.3) if in_turns else ("1,2,4,8,16", 5.0, 1.0)
    measurement = Measurement(
        where=where,
        model=model,
        version=version,
        settings=parse_own_settings(setting or ()),
        kind=None if kind is None else kind.value,
        over_http=http,
        inputs=tuple(inputs or ()),
        shapes=tuple(shape or ()),
        rows=rows,
        loads=parse_loads(concurrency or default_loads, rate),
        duration=Duration(seconds or default_seconds, warmup_seconds or default_warmup, timeout),
        token=read_token(token, token_file),
    )
    if tune:
        goal = Goal(
            latency_ms,
            0.05 if max_error is None else max_error,
            0.99 if min_agreement is None else min_agreement,
            budget_seconds or 300.0,
            parse_axes(tries or ()),
        )
        run_tune(measurement, goal, is_approved=is_approved, is_json=is_json)
    elif compare:
        run_comparison(measurement, compare, rounds or 10, is_json=is_json)
    else:
        run_sweep(measurement, plot=plot, is_json=is_json)
