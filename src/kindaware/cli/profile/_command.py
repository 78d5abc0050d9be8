"""`kindaware profile`: the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kindaware.cli._kind import Kind, read_device_id
from kindaware.cli._shared_options import PrintsLine


def profile(
    model_dir: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL_DIR",
            help="The model's directory, which contains its versions.",
            show_default=False,
        ),
    ],
    requests: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Requests per execute.",
            show_default="32, or as many as max_batch_size allows",
        ),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", "-b", min=1, metavar="N", help="Rows per request.")] = 1,
    batches: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="How often to call execute.",
            show_default="20, or as many as fit in about 20 s, but 3 at least",
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write the trace; .gz compresses it."),
    ] = Path("trace.json"),
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT:3,224,224",
            help="Sizes of one row, for an input whose dims have -1.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT=FILE.npy", help="Rows for an input, instead of random ones.", show_default=False
        ),
    ] = None,
    kind: Annotated[
        Kind | None,
        typer.Option(help="Kind of instance.", show_default="the configuration's"),
    ] = None,
    device_id: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Ordinal of the GPU, with --kind GPU.", show_default="0"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Use another config.pbtxt.", show_default="the directory's"),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Override a parameter of the configuration.", show_default=False
        ),
    ] = None,
    is_json: PrintsLine = False,
) -> None:
    """Show where execute spends its time, without a server: a table of stages, and a trace for Perfetto."""
    # Here, since `kindaware serve` imports this file too, and has no use for the harness.
    from kindaware.cli.profile._session import profile_model

    profile_model(
        model_dir,
        requests=requests,
        rows=rows,
        batches=batches,
        output=output,
        shape=shape or (),
        data=data or (),
        kind=None if kind is None else kind.value,
        device_id=read_device_id(device_id, kind),
        config=config,
        parameter=parameter or (),
        is_json=is_json,
    )
