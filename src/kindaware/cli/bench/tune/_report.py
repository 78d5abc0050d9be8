"""What `--tune` prints, and the change of config.pbtxt that it offers."""

from __future__ import annotations

import difflib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from kindaware._server.config_edit import change_config
from kindaware.cli._table import align
from kindaware.cli.bench._ratios import B, Comparison, judge
from kindaware.cli.bench._stats import Spread
from kindaware.cli.bench.tune._search import Trial


@dataclass(frozen=True)
class Outcome:
    """What a search has found.

    Attributes:
        path: of config.pbtxt.
        text: of it, before.
        trials: in order, the first of the model as it is.
        best: of them; None if the search was interrupted.
        comparison: of the best (B) with the model as it is (A).
        latency_ms: most that p95 may be; None for no limit.
    """

    path: Path
    text: str
    trials: Sequence[Trial]
    best: Trial | None
    comparison: Comparison | None
    latency_ms: float | None = None

    @property
    def is_better(self) -> bool:
        """Whether the best is worth a change: faster beyond noise, or within a limit that the others miss."""
        if self.best is None or not self.best.settings or self.best.problem:
            return False
        first = self.trials[0]
        if self.best.is_within_limit and self._misses_limit():
            return False
        if first.problem or (self.best.is_within_limit and not first.is_within_limit):
            return True
        if self.comparison is None:
            return False
        measure = "requests/s" if first.is_within_limit else "p95"
        ratio = self.comparison.ratios()[measure]
        return ratio.is_certain and (ratio.spread.median > 1) == (measure == "requests/s")

    def _misses_limit(self) -> bool:
        """Whether the best kept to the limit in its trial only, and not in the comparison."""
        if self.latency_ms is None or self.comparison is None:
            return False
        latencies = [one[B].latency_ms for one in self.comparison.rounds]
        return Spread.of([one.p95 for one in latencies if one]).median > self.latency_ms

    @property
    def changed(self) -> str:
        """The text of config.pbtxt with the best settings."""
        assert self.best is not None
        return change_config(self.text or 'backend: "python"\n', self.best.settings)

    def diff(self) -> str:
        """Return the change of config.pbtxt; empty if there is none."""
        if not self.is_better:
            return ""
        before, after = (text.splitlines(keepends=True) for text in (self.text, self.changed))
        name = f"{self.path.parent.name}/{self.path.name}"
        return "".join(difflib.unified_diff(before, after, f"a/{name}", f"b/{name}"))


def write_outcome(outcome: Outcome) -> str:
    """Return the table of what was tried, what was best, and the change of config.pbtxt."""
    remarks = ["", *(_remark(trial, outcome.best) for trial in outcome.trials)]
    table = align(list(_rows(outcome)), left=1)
    lines = [f"{line}  {remark}".rstrip() for line, remark in zip(table, remarks, strict=True)]
    if outcome.comparison is not None and outcome.comparison.rounds:
        lines += ["", "the best (B) in turns with the model as it is (A), " + str(outcome.comparison.load)]
        lines.append(judge(outcome.comparison))
    lines += ["", _judge(outcome), outcome.diff()]
    return "\n".join(lines).rstrip()


def _rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    yield "tried", "in flight", "requests/s", "p95 ms", "error", "agreement"
    for trial in outcome.trials:
        settings = " ".join(f"{key}={value}" for key, value in trial.settings.items()) or "as it is"
        is_measured = trial.concurrency > 0
        accuracy = trial.accuracy
        yield (
            settings,
            str(trial.concurrency) if is_measured else "-",
            f"{trial.requests_per_second:,.1f}" if is_measured else "-",
            f"{trial.p95_ms:.2f}" if is_measured else "-",
            "-" if accuracy is None else f"{accuracy.error:.1e}",
            "-" if accuracy is None else f"{accuracy.agreement:.1%}",
        )


def _remark(trial: Trial, best: Trial | None) -> str:
    if trial.problem:
        return trial.problem if len(trial.problem) <= 60 else trial.problem[:57] + "..."
    if not trial.is_within_limit:
        return "over the limit"
    return "best" if trial is best else ""


def _judge(outcome: Outcome) -> str:
    if outcome.best is None:
        return "interrupted before the search was over; config.pbtxt is left as it is"
    if len(outcome.trials) == 1:
        return "there was no time to try anything; --budget-seconds gives more"
    if not outcome.is_better:
        return "nothing that was tried is better beyond noise; config.pbtxt is left as it is"
    over = "" if outcome.best.is_within_limit else ", though over the latency limit"
    return f"better than the model as it is{over}:"


def write_json(outcome: Outcome) -> str:
    """Return everything that was measured, and the change of config.pbtxt."""
    comparison = outcome.comparison
    ratios = comparison.ratios() if comparison is not None and comparison.rounds else {}
    return json.dumps(
        {
            "trials": [_plain(trial) for trial in outcome.trials],
            "best": None if outcome.best is None else dict(outcome.best.settings),
            "ratios": {name: asdict(ratio) for name, ratio in ratios.items()},
            "is_better": outcome.is_better,
            "diff": outcome.diff(),
        }
    )


def _plain(trial: Trial) -> dict[str, Any]:
    """Return a trial as JSON has it: without infinities."""
    found = asdict(trial)
    if not math.isfinite(trial.p95_ms):
        found["p95_ms"] = None
    if trial.accuracy is not None and not math.isfinite(trial.accuracy.error):
        found["accuracy"]["error"] = None
    return found


def apply_diff(outcome: Outcome, *, is_approved: bool, may_ask: bool) -> None:
    """Write the best settings into config.pbtxt where that is approved; asks in a terminal."""
    if not outcome.diff():
        return
    if not is_approved and may_ask and sys.stdin.isatty() and sys.stdout.isatty():
        is_approved = typer.confirm(f"Write this into {outcome.path}?")
    if is_approved:
        outcome.path.write_text(outcome.changed, encoding="utf-8")
        typer.echo(f"wrote {outcome.path}", err=True)
    else:
        typer.echo(f"{outcome.path} is left as it is; --yes writes the change", err=True)
