"""One run of `kindaware size`, from its options to the table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from kindaware._errors import ConfigError, OptionError
from kindaware.cli._table import align
from kindaware.cli.bench._inputs import make_inputs
from kindaware.cli.bench._level import Level
from kindaware.cli.bench._load import Load
from kindaware.cli.bench._progress import Progress
from kindaware.cli.bench._subject import Place, Subject, find_place, open_subject
from kindaware.cli.bench._sweep import Duration, measure
from kindaware.cli.size._plan import Goal, Plan, make_plan
from kindaware.cli.size._service import measure_service

_WARMUP_SECONDS = 1.0
_TIMEOUT_SECONDS = 60.0
_LEVELS = (50, 95, 99)


@dataclass(frozen=True)
class Question:
    """What is measured; the options of the command line.

    Attributes:
        where: the server, or the model's directory.
        model: its name; empty for the only one.
        settings: of a started server's model.
        inputs: given ones.
        shapes: of one row.
        instances: numbers to compare, as written; empty for the configuration's.
        seconds: of each load.
        verify_seconds: of the comparison with a real load; 0 for none.
        token: of a server that runs, or None.
    """

    where: str
    model: str
    settings: Mapping[str, str]
    inputs: Sequence[str]
    shapes: Sequence[str]
    instances: str
    seconds: float
    verify_seconds: float
    token: str | None = None


@dataclass(frozen=True)
class Answer:
    """A plan for a rate and a number of instances, and what a real load said to it, if it was asked."""

    goal: Goal
    plan: Plan
    measured: Level | None


def run_size(question: Question, goals: Sequence[Goal], *, is_json: bool) -> None:
    """Measure, plan for each goal, and print.

    Raises:
        KindAwareError: the model can't be measured, or can't keep the limit.
    """
    place = find_place(question.where, question.model)
    counts = parse_instances(question.instances, place)
    changes: list[Mapping[str, str]] = [question.settings]
    if counts:
        changes = [{**question.settings, "instance_group.count": str(count)} for count in counts]
    answers = [answer for settings in changes for answer in _answer(place, settings, question, goals)]
    typer.echo(json.dumps(as_document(answers)) if is_json else "\n".join(describe(answers)))


def parse_instances(text: str, place: Place) -> list[int]:
    """Read `--instances 1,2,4`.

    Raises:
        OptionError: it is no such list, or the server runs already.
    """
    if not text:
        return []
    parts = text.split(",")
    if not all(one.isdecimal() and 0 < int(one) <= 1024 for one in parts):
        raise OptionError.of(
            "--instances",
            expected="whole numbers from 1 on",
            got=repr(text),
            remedy="write it like --instances 1,2,4",
        )
    if place.repository is None:
        raise OptionError.of(
            "--instances",
            expected="a server that this command starts",
            got=f"one that runs, {place.url}",
            remedy="pass MODEL_DIR, or leave --instances out",
        )
    return [int(one) for one in parts]


def _answer(
    place: Place, settings: Mapping[str, str], question: Question, goals: Sequence[Goal]
) -> list[Answer]:
    duration = Duration(question.seconds, _WARMUP_SECONDS, _TIMEOUT_SECONDS)
    with (
        Progress(duration.total * 6 + question.verify_seconds * len(goals)) as progress,
        open_subject(place, settings=settings, token=question.token) as subject,
    ):
        _refuse_streams(subject)
        target = subject.target(
            make_inputs(subject.metadata, subject.config, question.inputs, question.shapes, 1)
        )
        service = measure_service(subject, target, duration, progress)
        plans = [make_plan(service, goal) for goal in goals]
        if not question.verify_seconds:
            return [Answer(goal, plan, None) for goal, plan in zip(goals, plans, strict=True)]
        seconds = Duration(question.verify_seconds, _WARMUP_SECONDS, _TIMEOUT_SECONDS)
        answers = []
        for goal, plan in zip(goals, plans, strict=True):
            load = Load(rate=goal.rate / plan.replicas)
            with progress.step(str(load), question.verify_seconds):
                answers.append(Answer(goal, plan, measure(subject, target, load, seconds, 1)))
        return answers


def _refuse_streams(subject: Subject) -> None:
    if subject.metadata.decoupled:
        raise ConfigError.of(
            f"model {subject.model!r}",
            expected="one answer per request",
            got="a stream",
            remedy="measure it with kindaware bench: how long a stream takes is up to its requests",
        )


def describe(answers: Sequence[Answer]) -> list[str]:
    """Return the table, and what to set."""
    goal = answers[0].goal
    has_cost = goal.cost_per_hour > 0
    titles = ["instances", "rate", "of one", "replicas", "busy", "batch", "p50", "p95", "p99"]
    rows = [[*titles, "queue", "pending", *(["per million"] if has_cost else [])]]
    for one in answers:
        plan = one.plan
        cost = [f"{plan.cost_per_million:.4g}"] if has_cost else []
        rows.append(
            [
                str(plan.service.num_instances),
                f"{one.goal.rate:g}",
                f"{plan.highest_rate:.4g}",
                str(plan.replicas),
                f"{plan.outcome.busy_share:.0%}",
                f"{plan.outcome.mean_batch:.1f}",
                *(f"{plan.outcome.percentile_ms(level):.3g}" for level in _LEVELS),
                *(str(plan.queue_size), str(plan.pending), *cost),
            ]
        )
        if one.measured is not None and one.measured.latency_ms is not None:
            latency, server = one.measured.latency_ms, one.measured.server
            batch = f"{server.rows_per_batch:.1f}" if server else ""
            percentiles = [f"{getattr(latency, f'p{level}'):.3g}" for level in _LEVELS]
            rows.append(["measured", "", "", "", "", batch, *percentiles, *[""] * (2 + has_cost)])
    lines = [
        f"99 % of the requests are to be answered within {goal.p99_ms:g} ms",
        *align(rows, left=1),
        "  of one: the rate that a replica can take; latencies in ms, of a replica with its part of the rate",
    ]
    highest = max(one.goal.rate for one in answers)
    best = min(
        (one.plan for one in answers if one.goal.rate == highest),
        key=lambda plan: (plan.replicas, plan.outcome.percentile_ms(99)),
    )
    return [
        *lines,
        "",
        f"instance_group count {best.service.num_instances}, {best.replicas} replicas, max_queue_size "
        f"{best.queue_size}, more replicas above {best.pending} waiting requests each:",
        f"  kindaware deploy kubernetes ... --replicas {best.replicas} --pending {best.pending}",
    ]


def as_document(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {"p99_ms": answers[0].goal.p99_ms, "plans": [_plan_as_document(one) for one in answers]}


def _plan_as_document(answer: Answer) -> dict[str, Any]:
    plan = answer.plan
    return {
        "instances": plan.service.num_instances,
        "rate": answer.goal.rate,
        "batch_ms": [round(one * 1e3, 4) for one in plan.service.seconds],
        "overhead_ms": plan.service.overhead_seconds * 1e3,
        "capacity": plan.service.capacity,
        "highest_rate": plan.highest_rate,
        "replicas": plan.replicas,
        "busy_share": plan.outcome.busy_share,
        "mean_batch": plan.outcome.mean_batch,
        "latency_ms": {f"p{level}": plan.outcome.percentile_ms(level) for level in _LEVELS},
        "queue_size": plan.queue_size,
        "pending": plan.pending,
        "cost_per_million": plan.cost_per_million,
        "measured": None if answer.measured is None else answer.measured.as_dict(),
    }
