"""`kindaware bench --tune` from the options to the changed config.pbtxt."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from kindaware._errors import ConfigError, KindAwareError, OptionError
from kindaware._server.config_edit import read_setting
from kindaware._server.failure import ServerError
from kindaware.cli.bench._compare import take_turns
from kindaware.cli.bench._inputs import make_inputs
from kindaware.cli.bench._level import Level
from kindaware.cli.bench._load import Load
from kindaware.cli.bench._progress import Progress
from kindaware.cli.bench._ratios import A, B, Comparison
from kindaware.cli.bench._session import Measurement
from kindaware.cli.bench._subject import Place, Subject, find_place, only_folder, open_subject
from kindaware.cli.bench._sweep import measure
from kindaware.cli.bench.tune._accuracy import Accuracy, Arrays, compare_outputs
from kindaware.cli.bench.tune._axes import (
    COMPILE,
    DEFAULTS,
    PRECISION,
    Axis,
    Machine,
    make_axes,
    makes_sense,
    with_given,
)
from kindaware.cli.bench.tune._report import Outcome, apply_diff, write_json, write_outcome
from kindaware.cli.bench.tune._search import Trial, search
from kindaware.client import ModelClient

_NUM_REQUESTS = 4
"""Requests whose answers are compared, each of them of at most as many rows."""
_NUM_ROWS = 8
_NUM_ROUNDS = 8
"""In which the winner and the model as it is take turns in the end."""


@dataclass(frozen=True)
class Goal:
    """What the winner has to fulfil, and how long the search may take.

    Attributes:
        latency_ms: most that p95 may be; None for no limit.
        max_error: most that a floating-point output may differ from FP32, in parts of its largest value.
        min_agreement: least share of rows whose best class is that of FP32.
        budget_seconds: for everything.
        axes: to try in place of its own choice.
    """

    latency_ms: float | None
    max_error: float
    min_agreement: float
    budget_seconds: float
    axes: Sequence[Axis]


def run_tune(measurement: Measurement, goal: Goal, *, is_approved: bool, is_json: bool) -> None:
    """Search, print what was tried, and write the winner into config.pbtxt if it is approved.

    Raises:
        ConfigError: the model is not one in a directory, or it streams.
    """
    tuner = _Tuner(measurement, goal)
    interrupted = False
    try:
        with Progress(goal.budget_seconds) as progress:
            tuner.run(progress)
    except KeyboardInterrupt:
        interrupted = True
    outcome = tuner.outcome()
    if outcome.trials:
        typer.echo(write_json(outcome) if is_json else write_outcome(outcome))
    if interrupted:
        raise KeyboardInterrupt
    apply_diff(outcome, is_approved=is_approved, may_ask=not is_json)


class _Tuner:
    """One search, which can be interrupted."""

    def __init__(self, measurement: Measurement, goal: Goal) -> None:
        self._measurement = measurement
        self._goal = goal
        self._place, folder = _find_model(measurement)
        self._config_path = folder / "config.pbtxt"
        self._text = self._config_path.read_text(encoding="utf-8") if self._config_path.exists() else ""
        self._deadline = time.monotonic() + goal.budget_seconds
        self._longest = 0.0
        self._reference: list[Arrays] = []
        self._trials: list[Trial] = []
        self._best: Trial | None = None
        self._comparison: Comparison | None = None

    def run(self, progress: Progress) -> None:
        """Measure FP32, search, and compare the winner with the model as it is."""
        self._progress = progress
        axes, machine = self._look_at_model()
        current = {
            axis.key: read_setting(self._text, axis.key) or DEFAULTS.get(axis.key, "") for axis in axes
        }
        progress.say("tries " + "; ".join(f"{axis.key}: {' '.join(axis.values)}" for axis in axes))
        self._best = search(
            axes,
            self._measure,
            current=current,
            makes_sense=lambda settings: makes_sense(settings, machine),
            has_time=self._has_time,
            trials=self._trials,
        )
        if self._best.settings and not self._trials[0].problem:
            self._compare(self._best)

    def outcome(self) -> Outcome:
        """Return what there is so far."""
        comparison = self._comparison if self._comparison is not None and self._comparison.rounds else None
        trials, limit = tuple(self._trials), self._goal.latency_ms
        return Outcome(self._config_path, self._text, trials, self._best, comparison, limit)

    def _look_at_model(self) -> tuple[list[Axis], Machine]:
        """Ask the model in FP32, and return what can be tried of it."""
        settings = {**self._measurement.settings, PRECISION: "32-true", COMPILE: "off"}
        with self._progress.step("FP32, for comparison", 5), self._open(settings) as subject:
            if subject.metadata.decoupled:
                raise ConfigError.of(
                    f"model {subject.model!r}",
                    expected="a model whose requests have one answer",
                    got="one that streams, whose answers can't be compared",
                    remedy="compare settings with --compare",
                )
            self._reference = self._ask(subject)
            is_kindaware = subject.server is not None and bool(subject.server.instances())
            machine = Machine.detect()
            axes = make_axes(subject.config, machine, is_kindaware=is_kindaware)
        return with_given(axes, self._goal.axes), machine

    def _measure(self, settings: Mapping[str, str]) -> Trial:
        started = time.monotonic()
        text = " ".join(f"{key}={value}" for key, value in settings.items()) or "as it is"
        try:
            with self._progress.step(text, self._longest or 10.0):
                trial = self._try(settings)
        except KindAwareError as error:
            trial = Trial(settings, problem=_describe(error))
        self._longest = max(self._longest, time.monotonic() - started)
        said = trial.problem or f"{trial.requests_per_second:,.1f} requests/s, p95 {trial.p95_ms:.3g} ms"
        self._progress.say(f"{text}: {said}")
        return trial

    def _try(self, settings: Mapping[str, str]) -> Trial:
        with self._open({**self._measurement.settings, **settings}) as subject:
            accuracy = compare_outputs(self._ask(subject), self._reference)
            problem = accuracy.find_problem(self._goal.max_error, self._goal.min_agreement)
            if problem:
                return Trial(settings, accuracy=accuracy, problem=problem)
            return max_of([self._load(subject, settings, accuracy, load) for load in self._measurement.loads])

    def _load(self, subject: Subject, settings: Mapping[str, str], accuracy: Accuracy, load: Load) -> Trial:
        measurement, limit = self._measurement, self._goal.latency_ms
        target = measurement.make_target(subject)
        level = measure(subject, target, load, measurement.duration, measurement.rows)
        p95 = level.latency_ms.p95 if level.latency_ms else float("inf")
        return Trial(
            settings=settings,
            requests_per_second=level.requests_per_second,
            p95_ms=p95,
            concurrency=load.concurrency,
            accuracy=accuracy,
            is_within_limit=limit is None or p95 <= limit,
            problem=next(iter(level.errors), ""),
        )

    def _ask(self, subject: Subject) -> list[Arrays]:
        """Return the answers to the same random requests, or to the inputs that were given."""
        measurement, metadata = self._measurement, subject.metadata
        most = int(subject.config.get("max_batch_size", 0))
        rows = min(_NUM_ROWS, most) if metadata.batches else 1
        with ModelClient(subject.url, subject.model, version=subject.version) as client:
            return [
                client.infer(
                    make_inputs(
                        metadata, subject.config, measurement.inputs, measurement.shapes, rows, seed=seed
                    )
                )
                for seed in range(_NUM_REQUESTS)
            ]

    def _compare(self, best: Trial) -> None:
        """Let the winner and the model as it is take turns, each on its server."""
        measurement = replace(self._measurement, loads=(Load(best.concurrency),))
        rounds: list[dict[str, Level]] = []
        with ExitStack() as stack:
            subjects = {}
            for name, settings in ((A, {}), (B, best.settings)):
                subject = stack.enter_context(self._open({**measurement.settings, **settings}))
                subjects[name] = subject, measurement.make_target(subject)
            self._comparison = Comparison(measurement.loads[0], rounds)
            for one in take_turns(measurement, subjects, measurement.loads[0], _NUM_ROUNDS, self._progress):
                rounds.append(one)

    def _open(self, settings: Mapping[str, str]) -> AbstractContextManager[Subject]:
        return open_subject(
            self._place,
            version=self._measurement.version,
            settings=settings,
            kind=self._measurement.kind,
            over_http=self._measurement.over_http,
        )

    def _has_time(self) -> bool:
        """Return whether another trial leaves enough time to compare the winner."""
        last = 2 * _NUM_ROUNDS * self._measurement.duration.total + self._longest
        has_time = time.monotonic() + self._longest + last < self._deadline
        if not has_time:
            self._progress.say("not everything was tried: --budget-seconds gives more time")
        return has_time


def _describe(error: KindAwareError) -> str:
    """Return the first line of what the model itself has said, or of the error."""
    reasons = [*error.models.values()] if isinstance(error, ServerError) else []
    return (reasons or [str(error)])[0].strip().splitlines()[0]


def max_of(trials: Sequence[Trial]) -> Trial:
    """Return the best trial of several loads: the fastest one within the limit."""
    best = trials[0]
    for one in trials[1:]:
        if one.beats(best, least_gain=1.0):
            best = one
    return best


def _find_model(measurement: Measurement) -> tuple[Place, Path]:
    """Return the model, and its directory."""
    place = find_place(measurement.where, measurement.model)
    if place.repository is None:
        raise OptionError.of(
            f"--tune of {measurement.where}",
            expected="the directory of a model, since each trial needs a server of its own",
            got="the address of a server",
            remedy="pass MODEL_DIR",
        )
    named = place if place.model else replace(place, model=only_folder(place.repository))
    return named, place.repository / named.model
