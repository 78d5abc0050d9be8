"""From the command line to what it prints: one sweep over loads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from kindaware._errors import KindAwareError
from kindaware.cli.bench._inputs import make_inputs
from kindaware.cli.bench._level import Level
from kindaware.cli.bench._load import Load
from kindaware.cli.bench._plot import check_plot, plot_levels
from kindaware.cli.bench._progress import Progress
from kindaware.cli.bench._report import write_levels
from kindaware.cli.bench._subject import Subject, find_place, open_subject
from kindaware.cli.bench._sweep import Duration, sweep
from kindaware.cli.bench._target import Target


@dataclass(frozen=True)
class Measurement:
    """What is to be measured, and how; the options of the command line that all its modes share."""

    where: str
    model: str
    version: str
    settings: Mapping[str, str]
    kind: str | None
    over_http: bool
    inputs: Sequence[str]
    shapes: Sequence[str]
    rows: int
    loads: Sequence[Load]
    duration: Duration
    token: str | None = None

    def make_target(self, subject: Subject) -> Target:
        """Return the request that a model gets again and again."""
        return subject.target(
            make_inputs(subject.metadata, subject.config, self.inputs, self.shapes, self.rows)
        )


class RequestsFailedError(KindAwareError):
    """The server has refused requests, or has not answered them in time."""


def run_sweep(measurement: Measurement, *, plot: Path | None, is_json: bool) -> None:
    """Measure load after load, and print the table; after Ctrl-C what there is of it.

    Raises:
        RequestsFailedError: some requests were not answered.
    """
    if plot is not None:
        check_plot(plot)
    place = find_place(measurement.where, measurement.model)
    duration, loads = measurement.duration, measurement.loads
    levels: list[Level] = []
    interrupted = False
    with (
        Progress(duration.total * len(loads)) as progress,
        open_subject(
            place,
            version=measurement.version,
            settings=measurement.settings,
            kind=measurement.kind,
            over_http=measurement.over_http,
            token=measurement.token,
        ) as subject,
    ):
        target = measurement.make_target(subject)
        progress.say(f"{subject.model} at {subject.url}")
        try:
            for level in sweep(subject, target, loads, duration, measurement.rows, progress):
                levels.append(level)
        except KeyboardInterrupt:
            interrupted = True
    if levels:
        typer.echo(
            json.dumps({"model": subject.model, "levels": [one.as_dict() for one in levels]})
            if is_json
            else write_levels(levels, is_stream=target.is_stream)
        )
    if levels and plot is not None:
        rows = f", {measurement.rows} rows a request" if measurement.rows > 1 else ""
        plot_levels(levels, plot, title=f"{subject.model}{rows}")
        typer.echo(f"wrote {plot}", err=True)
    if interrupted:
        raise KeyboardInterrupt
    check_answered(levels)


def check_answered(levels: Sequence[Level]) -> None:
    """Refuse a result with errors in it, once it is printed.

    Raises:
        RequestsFailedError: there are some.
    """
    failed = sum(level.num_errors for level in levels)
    if failed:
        total = failed + sum(level.num_requests for level in levels)
        raise RequestsFailedError(f"{failed} of {total} requests had no answer: see above")
