"""`kindaware profile`: the command line, and the order of things."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kindaware._errors import ConfigError, KindAwareError
from kindaware.cli.profile._inputs import count_requests, make_requests, parse_shapes, read_data
from kindaware.cli.profile._report import describe_instance, describe_machine, write_report
from kindaware.cli.profile._run import NUM_WARM_UPS, measure
from kindaware.testing import ModelHarness


def profile(
    model_dir: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL_DIR", help="A model's directory, with its versions in it.", show_default=False
        ),
    ],
    requests: Annotated[
        int | None,
        typer.Option(
            min=1, help="Requests of one execute.", show_default="32, or as many as max_batch_size lets in"
        ),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", "-b", min=1, help="Rows of a request.")] = 1,
    batches: Annotated[int, typer.Option(min=1, help="How many times execute is called.")] = 20,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The trace; with .gz it is compressed.")
    ] = Path("trace.json"),
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT:3,224,224",
            help="Sizes of one row of an input whose dims have -1.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT=FILE.npy", help="Rows of an input, in place of random ones.", show_default=False
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="CPU|GPU|MODEL", help="Kind of the instance.", show_default="the configuration's"
        ),
    ] = None,
    device_id: Annotated[int, typer.Option(min=0, help="Ordinal of the GPU.")] = 0,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A config.pbtxt.", show_default="the directory's"),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A parameter, over that of the configuration.", show_default=False
        ),
    ] = None,
) -> None:
    """Say where the time of execute goes, without a server: a table of stages, and a trace for Perfetto."""
    harness = None
    try:
        _check_output(output)
        shapes, arrays = parse_shapes(shape or ()), read_data(data or ())
        harness = ModelHarness(
            model_dir,
            config=config,
            kind=kind,
            device_id=device_id,
            num_gpus=_count_gpus() if kind is None else None,
            parameters=_parse_parameters(parameter or ()),
        )
        with harness as model:
            _refuse_decoupled(model)
            num_requests = count_requests(
                model.config["name"], int(model.config["max_batch_size"]), rows, requests
            )
            made = make_requests(
                model.config, num_requests=num_requests, rows=rows, shapes=shapes, data=arrays
            )
            about = {
                "model": describe_instance(model.instance, model.args),
                "calls": f"{batches} of execute with {num_requests} request(s) of {rows} row(s), "
                f"after {NUM_WARM_UPS} to warm up",
                **describe_machine(model.instance),
            }
            measured = measure(model, made, num_executes=batches, trace=output, about=about)
        typer.echo(write_report({**about, "trace": str(output)}, measured, num_requests))
    except KindAwareError as error:
        for line in [] if harness is None else harness.logs:
            if line.level in ("WARNING", "ERROR"):
                typer.echo(line.text, err=True)
        typer.echo(f"kindaware profile: {error}", err=True)
        raise typer.Exit(1) from None


def _check_output(path: Path) -> None:
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise ConfigError.of(
            f"--output {path}",
            expected="a file in a directory that is there",
            got="a directory" if path.is_dir() else "no such directory",
            remedy="name another file, or make the directory",
        )


def _parse_parameters(options: Sequence[str]) -> dict[str, str]:
    found = {}
    for option in options:
        name, equals, found[name] = option.partition("=")
        if not (name and equals):
            raise ConfigError.of(
                f"--parameter {option}",
                expected="a name and a value",
                got=repr(option),
                remedy="write it like --parameter kindaware.precision=bf16-true",
            )
    return found


def _refuse_decoupled(model: ModelHarness) -> None:
    if model.config.get("model_transaction_policy", {}).get("decoupled"):
        raise ConfigError.of(
            f"model {model.config['name']!r}",
            expected="a model that answers when execute returns",
            got="a decoupled one, whose streams go on after that",
            remedy="profile its forward in a model that is not decoupled, or the server with its own metrics",
        )


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()
