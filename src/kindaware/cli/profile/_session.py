"""One profile, from the options of the command to its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import typer

from kindaware._errors import ConfigError
from kindaware.cli._harness_errors import explained
from kindaware.cli._model_dir import require_model
from kindaware.cli._shapes import parse_shapes
from kindaware.cli.profile._inputs import count_requests, make_requests, parse_parameters, read_data
from kindaware.cli.profile._report import describe_instance, describe_machine, write_json, write_report
from kindaware.cli.profile._run import WarmUp, measure, warm_up
from kindaware.testing import ModelHarness


def profile_model(
    model_dir: Path,
    *,
    requests: int | None,
    rows: int,
    batches: int | None,
    output: Path,
    shape: Sequence[str],
    data: Sequence[str],
    kind: str | None,
    device_id: int,
    config: Path | None,
    parameter: Sequence[str],
    is_json: bool,
) -> None:
    """Profile a model and print the report; the arguments are the options of the command.

    Raises:
        KindAwareError: an option or the model is wrong; the warnings and errors of its log are printed.
    """
    require_model(model_dir)
    _check_output(output)
    shapes, arrays = parse_shapes(shape), read_data(data)
    harness = ModelHarness(
        model_dir,
        config=config,
        kind=kind,
        device_id=device_id,
        num_gpus=torch.cuda.device_count() if kind is None else None,
        parameters=parse_parameters(parameter),
    )
    with explained(harness), harness as model:
        _refuse_decoupled(model)
        num_requests = count_requests(
            model.config["name"], int(model.config["max_batch_size"]), rows, requests
        )
        made = make_requests(model.config, num_requests=num_requests, rows=rows, shapes=shapes, data=arrays)
        warmed = warm_up(model, made)
        calls = warmed.choose_calls() if batches is None else batches
        _say_what_comes(warmed, calls)
        about = {
            "model": describe_instance(model.instance, model.args),
            "calls": f"{calls} of execute with {num_requests} request(s) of {rows} row(s), "
            f"after {warmed.count} to warm up",
            **describe_machine(model.instance),
        }
        measured = measure(model, made, num_executes=calls, trace=output, about=about)
    write = write_json if is_json else write_report
    typer.echo(write({**about, "trace": str(output)}, measured, num_requests))


def _say_what_comes(warmed: WarmUp, calls: int) -> None:
    """Print how long it may take, so that a slow model is no riddle."""
    seconds = warmed.seconds * (2 * calls + 1)
    typer.echo(
        f"{warmed.seconds * 1e3:.3g} ms per execute; {calls} calls timed, then {calls} traced, "
        f"in about {max(1, round(seconds))} s",
        err=True,
    )


def _check_output(path: Path) -> None:
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise ConfigError.of(
            f"--output {path}",
            expected="a file in a directory that is there",
            got="a directory" if path.is_dir() else "no such directory",
            remedy="name another file, or make the directory",
        )


def _refuse_decoupled(model: ModelHarness) -> None:
    if model.config.get("model_transaction_policy", {}).get("decoupled"):
        raise ConfigError.of(
            f"model {model.config['name']!r}",
            expected="a model that answers when execute returns",
            got="a decoupled one, whose streams go on after that",
            remedy="profile its forward in a model that is not decoupled, or the server with its own metrics",
        )
