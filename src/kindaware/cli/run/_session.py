"""One run, from the options of the command to what it prints."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
import typer

from kindaware._errors import KindAwareError
from kindaware._server.config_changes import ConfigChanges, parse_own_settings
from kindaware._server.model_folder import read_config
from kindaware.cli._file_watch import FileWatch, check_watch_installed, follow_links
from kindaware.cli._hanging import hang
from kindaware.cli._harness_errors import explained
from kindaware.cli._machine import Machine
from kindaware.cli._model_dir import require_model
from kindaware.cli._outputs import refuse_no_classes, write_outputs
from kindaware.cli._recorder import Recorder
from kindaware.cli._stages import mark_stages, order_stages
from kindaware.cli._values import read_text_file
from kindaware.cli.check._subject import Subject
from kindaware.cli.run._report import (
    describe_model,
    to_numpy,
    write_inputs,
    write_json_line,
    write_stages,
)
from kindaware.cli.run._requests import describe_tensors, flags_of, make_requests
from kindaware.testing import ModelHarness, Result

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class RunOptions:
    """The options of the command, where they are described.

    Attributes:
        model_dir: the model's directory.
        inputs: `NAME=VALUE` each.
        is_random: whether other inputs are random.
        num_requests: how many requests at least.
        top: how many of the best classes are listed.
        labels: names of the classes; without them, each output's own file has them.
        kind: of the instance, or None.
        device_id: ordinal of the GPU.
        accelerator: `simulated`, or None.
        settings: `KEY=VALUE` each.
        is_json: whether answers are printed as JSON.
    """

    model_dir: Path
    inputs: tuple[str, ...]
    is_random: bool
    num_requests: int
    top: int
    labels: tuple[str, ...]
    kind: str | None
    device_id: int
    accelerator: str | None
    settings: tuple[str, ...]
    is_json: bool


def run_model(options: RunOptions) -> None:
    """Load a model, send it the requests, and print the answers.

    Raises:
        KindAwareError: an option or the model is wrong; the warnings and errors of its log are printed.
    """
    require_model(options.model_dir, allow_ensemble=True)
    harness = _make_harness(options)
    out = sys.stdout
    # What the model prints is none of the results.
    with explained(harness), contextlib.redirect_stdout(sys.stderr):
        _run_loaded(harness, options, out)


def watch_model(options: RunOptions) -> None:
    """Run a model now, and again each time that one of its files has changed, until Ctrl-C.

    Raises:
        ConfigError: it can't be watched.
    """
    check_watch_installed()
    require_model(options.model_dir, allow_ensemble=True)
    watch = FileWatch(lambda: follow_links(options.model_dir))
    watch.start()
    try:
        _run_reported(options)
        while True:
            time.sleep(_POLL_SECONDS)
            is_changed = bool(watch.take())
            while is_changed:
                typer.echo(f"\n{time.strftime('%H:%M:%S')} changed, runs again", err=True)
                _run_reported(options)
                is_changed = bool(watch.take(code_only=True))
    except KeyboardInterrupt:
        return
    finally:
        watch.close()


def _run_reported(options: RunOptions) -> None:
    """Run a model; an error is printed, for the next change may correct it."""
    try:
        run_model(options)
    except (KindAwareError, OSError) as error:
        typer.echo(f"kindaware run: {error}", err=True)


def _make_harness(options: RunOptions) -> ModelHarness:
    is_torchs = options.kind is None and options.accelerator is None
    return ModelHarness(
        options.model_dir,
        config=_change_config(options.model_dir, options.settings),
        kind=options.kind,
        device_id=options.device_id,
        num_gpus=torch.cuda.device_count() if is_torchs else None,
        accelerator=options.accelerator,
        models=Subject(options.model_dir, Machine()).called(),
        instances=None if read_config(options.model_dir).is_ensemble else 1,
    )


def _change_config(model_dir: Path, settings: Sequence[str]) -> str | None:
    """Return the configuration with settings of the command line; None where there are none."""
    if not settings:
        return None
    name = read_config(model_dir).value("name") or model_dir.absolute().name
    changes = ConfigChanges(settings={name: parse_own_settings(settings)})
    file = model_dir / "config.pbtxt"
    return changes.apply(name, file.read_text() if file.is_file() else 'backend: "python"\n')


def _run_loaded(harness: ModelHarness, options: RunOptions, out: TextIO) -> None:
    started = time.perf_counter()
    with harness as model:
        load_seconds = time.perf_counter() - started
        refuse_no_classes(options.top, describe_tensors(model.config).outputs)
        requests = make_requests(
            options.inputs, model.config, is_random=options.is_random, num_requests=options.num_requests
        )
        if not options.is_json and model.instances:
            about = describe_model(model.instance, model.args, load_seconds)
            typer.echo(hang(about, 0, further=4, out=out), file=out)
        recorder = Recorder()
        if model.instances:
            mark_stages(model.instance, recorder)
        for number, inputs in enumerate(requests):
            sequence = flags_of(model.config, number, len(requests))
            if not options.is_json:
                typer.echo(f"\n{write_inputs(inputs, out)}\n->", file=out)
            _run_one(model, inputs, sequence, recorder, options, out)
        if recorder.seconds and not options.is_json:
            typer.echo(f"\n{write_stages(recorder.seconds, len(requests))}", file=out)


def _find_labels(config: Mapping[str, Any], options: RunOptions) -> dict[str, tuple[str, ...]]:
    """Return the names of each output's classes, from the command line or from the files of config.pbtxt.

    Raises:
        ConfigError: a file can't be read.
    """
    found = {}
    for one in config.get("output", ()):
        if options.labels:
            found[one["name"]] = options.labels
        elif file := one.get("label_filename"):
            subject = f"model {config['name']!r} output {one['name']!r} label_filename {file!r}"
            found[one["name"]] = tuple(read_text_file(options.model_dir / file, subject).splitlines())
    return found


def _run_one(
    model: ModelHarness,
    inputs: Mapping[str, Any],
    sequence: Mapping[str, int],
    recorder: Recorder,
    options: RunOptions,
    out: TextIO,
) -> None:
    """Send one request, and print its answers: those of a stream as they come."""
    labels = _find_labels(model.config, options) if options.top else {}
    before = dict(recorder.seconds)
    started = time.perf_counter()

    def show(result: Result) -> None:
        outputs, elapsed = to_numpy(result.outputs), time.perf_counter() - started
        if options.is_json:
            taken = {name: one - before.get(name, 0.0) for name, one in recorder.seconds.items()}
            typer.echo(
                write_json_line(outputs, {"response": elapsed} if is_stream else order_stages(taken)),
                file=out,
            )
        else:
            came = f"{elapsed:7.3f} s  " if is_stream else ""
            text = write_outputs(outputs, top=options.top, labels=labels, column=len(came), out=out)
            typer.echo(came + text, file=out)

    def show_item(result: Result) -> None:
        if result.error is None:  # those are raised below
            show(result)

    is_stream = model.served.is_decoupled
    sent = model.stream(inputs, **sequence, on_response=show_item if is_stream else None)  # type: ignore[arg-type]
    for result in sent:
        if not is_stream:
            show(result)
