"""Two candidates in turns, each on a server that is up all the time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import typer

from kindaware.cli.bench._candidates import Candidate, find_candidates
from kindaware.cli.bench._level import Level
from kindaware.cli.bench._load import Load
from kindaware.cli.bench._progress import Progress
from kindaware.cli.bench._ratios import A, B, Comparison, write_comparisons, write_json
from kindaware.cli.bench._session import Measurement, RequestsFailedError, check_answered
from kindaware.cli.bench._subject import Subject, open_subject
from kindaware.cli.bench._sweep import measure
from kindaware.cli.bench._target import Target


def run_comparison(measurement: Measurement, what: str, num_rounds: int, *, is_json: bool) -> None:
    """Measure both in turns, and print the ratios; after Ctrl-C those of the rounds that there are.

    Raises:
        RequestsFailedError: some requests were not answered.
    """
    candidates = dict(zip((A, B), find_candidates(measurement, what), strict=True))
    total = 2 * num_rounds * len(measurement.loads) * measurement.duration.total
    found: list[Comparison] = []
    interrupted = False
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(total))
        subjects = {name: _open(stack, measurement, one) for name, one in candidates.items()}
        try:
            for load in measurement.loads:
                rounds: list[dict[str, Level]] = []
                found.append(Comparison(load, rounds))
                for one in take_turns(measurement, subjects, load, num_rounds, progress):
                    rounds.append(one)
        except KeyboardInterrupt:
            interrupted = True
    found = [one for one in found if one.rounds]
    if found:
        typer.echo(write_json(candidates, found) if is_json else write_comparisons(candidates, found))
    if interrupted:
        raise KeyboardInterrupt
    check_answered([level for one in found for each in one.rounds for level in each.values()])


def _open(stack: ExitStack, measurement: Measurement, candidate: Candidate) -> tuple[Subject, Target]:
    subject = stack.enter_context(
        open_subject(
            candidate.place,
            version=measurement.version,
            settings=candidate.settings,
            kind=measurement.kind,
            over_http=measurement.over_http,
            token=measurement.token,
        )
    )
    return subject, measurement.make_target(subject)


def take_turns(
    measurement: Measurement,
    subjects: Mapping[str, tuple[Subject, Target]],
    load: Load,
    num_rounds: int,
    progress: Progress,
) -> Iterator[dict[str, Level]]:
    """Yield rounds, in each of which every candidate is measured once: A B, A B."""
    for number in range(1, num_rounds + 1):
        levels = {}
        for name, (subject, target) in subjects.items():
            with progress.step(f"{load}, round {number} of {num_rounds}, {name}", measurement.duration.total):
                levels[name] = measure(subject, target, load, measurement.duration, measurement.rows)
            if not levels[name].num_requests:
                raise RequestsFailedError(f"{name} has answered nothing: {', '.join(levels[name].errors)}")
        rates = ", ".join(f"{name} {level.requests_per_second:,.1f}" for name, level in levels.items())
        progress.say(f"{load}, round {number} of {num_rounds}: {rates} requests/s")
        yield levels
