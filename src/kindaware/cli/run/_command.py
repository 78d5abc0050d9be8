"""`kindaware run`: the command line."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from kindaware.cli._kind import Kind, read_device_id


class Accelerator(str, Enum):
    """What --accelerator takes."""

    SIMULATED = "simulated"


def run(
    model_dir: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL_DIR", help="A model's directory, with its versions in it.", show_default=False
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME=VALUE",
            help="A .npy file, a picture, JSON or text; omit the name if there is only one input. "
            "A name given again begins another request.",
            show_default=False,
        ),
    ] = None,
    is_random: Annotated[bool, typer.Option("--random", help="Random values for the other inputs.")] = False,
    num_requests: Annotated[
        int,
        typer.Option(
            "--requests",
            min=1,
            metavar="N",
            help="How many requests; one sequence if the model has sequences.",
        ),
    ] = 1,
    top: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="K", help="List the K best classes of each row.", show_default="5 with --labels"
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Names of the classes, one per line.", show_default="label_filename's"
        ),
    ] = None,
    kind: Annotated[
        Kind | None,
        typer.Option(help="Kind of the instance.", show_default="the configuration's"),
    ] = None,
    device_id: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Ordinal of the GPU, with --kind GPU.", show_default="0"),
    ] = None,
    accelerator: Annotated[
        Accelerator | None,
        typer.Option(
            metavar="simulated", help="Simulated GPUs in host memory.", show_default="torch's own devices"
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set kindaware.SETTING, parameters.NAME, max_batch_size or the like; repeatable.",
            show_default=False,
        ),
    ] = None,
    is_watched: Annotated[
        bool, typer.Option("--watch", help="Run again when a file of the model changes, until Ctrl-C.")
    ] = False,
    is_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each answer.")] = False,
) -> None:
    """Run a model once in this process, without a server: its outputs, and the time that each stage took."""
    # Here, since `kindaware serve` imports this file too, and has no use for the harness.
    from kindaware.cli._values import read_labels
    from kindaware.cli.run._session import RunOptions, run_model, watch_model

    options = RunOptions(
        model_dir=model_dir,
        inputs=tuple(inputs or ()),
        is_random=is_random,
        num_requests=num_requests,
        top=(5 if labels else 0) if top is None else top,
        labels=read_labels(labels),
        kind=None if kind is None else kind.value,
        device_id=read_device_id(device_id, kind),
        accelerator=None if accelerator is None else accelerator.value,
        settings=tuple(settings or ()),
        is_json=is_json,
    )
    if is_watched:
        watch_model(options)
    else:
        run_model(options)
