"""One load after the other, each with a warm-up of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kindaware._errors import ConfigError
from kindaware.cli.bench._connections import LoadError
from kindaware.cli.bench._level import Level
from kindaware.cli.bench._load import Load, Tally, run_load
from kindaware.cli.bench._progress import Progress
from kindaware.cli.bench._server_times import ServerTimes, compare
from kindaware.cli.bench._subject import Subject
from kindaware.cli.bench._target import Target
from kindaware.client import ModelClientError


@dataclass(frozen=True)
class Duration:
    """How long one measurement takes.

    Attributes:
        seconds: in which requests are counted.
        warmup_seconds: before them.
        timeout_seconds: how long the last answers may take.
    """

    seconds: float
    warmup_seconds: float
    timeout_seconds: float

    @property
    def total(self) -> float:
        """Without the wait for the last answers."""
        return self.seconds + self.warmup_seconds


def measure(
    subject: Subject, target: Target, load: Load, duration: Duration, rows: int, tally: Tally | None = None
) -> Level:
    """Measure one load.

    Args:
        subject: the model, which is asked for its statistics.
        target: the request.
        load: how it is sent.
        duration: for how long.
        rows: of the request.
        tally: what counts, for a caller who may be interrupted.

    Raises:
        ConfigError: the model refuses all requests, with its words.
    """
    counted = Tally() if tally is None else tally
    before: list[Counter[str]] = []
    try:
        run_load(
            target,
            load,
            duration.seconds,
            warmup_seconds=duration.warmup_seconds,
            timeout_seconds=duration.timeout_seconds,
            tally=counted,
            on_start=lambda: before.append(subject.counts()),
        )
    except LoadError as error:
        raise ConfigError.of(
            f"model {subject.model!r} at {subject.url}",
            expected="an answer to a request",
            got=f"errors only: {error}",
            remedy=f"try it with kindaware infer {subject.model}; the server's log has more",
        ) from error
    return Level.of(load, counted, rows, _server_times(subject, before[0], counted))


def _server_times(subject: Subject, before: Counter[str], counted: Tally) -> ServerTimes | None:
    """Return what the server has counted since; None of a server that has gone, as the errors say."""
    try:
        return compare(before, subject.counts())
    except ModelClientError:
        if not counted.errors:
            raise
        return None


def sweep(
    subject: Subject, target: Target, loads: Sequence[Load], duration: Duration, rows: int, progress: Progress
) -> Iterator[Level]:
    """Yield the result of each load; on Ctrl-C, what there is of the last one before the exception."""
    for load in loads:
        tally = Tally()
        try:
            with progress.step(str(load), duration.total):
                level = measure(subject, target, load, duration, rows, tally)
        except KeyboardInterrupt:
            if tally.latencies:
                yield Level.of(load, tally, rows, None, is_complete=False)
            raise
        progress.say(f"{load}: {describe(level)}")
        yield level


def describe(level: Level) -> str:
    """Return a result in a few words."""
    p95 = f", p95 {level.latency_ms.p95:.3g} ms" if level.latency_ms else ""
    errors = f", {level.num_errors} errors" if level.num_errors else ""
    return f"{level.requests_per_second:,.1f} requests/s{p95}{errors}"
