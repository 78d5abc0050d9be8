"""What a run has found, as JSON: all that its pages show."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from stress.soak.bars import Bar
from stress.soak.run import NAMES, Run
from stress.soak.tally import MEANINGS

MOST_POINTS = 600
"""How many points a line of the plots has, at most."""

Figures = dict[str, Any]


def make_figures(run: Run, bars: Sequence[Bar], about: dict[str, Any]) -> Figures:
    """Return what a run has found.

    Args:
        run: the run.
        bars: its bars.
        about: the command, the machine and the versions.
    """
    outcomes = run.tally.outcomes
    return {
        "run": about,
        "seconds": run.seconds,
        "requests": run.tally.num_requests,
        "bars": [asdict(one) for one in bars],
        "outcomes": {one: {name: outcomes[name][one] for name in NAMES} for one in MEANINGS},
        "faults": [asdict(one) for one in run.faults],
        "examples": run.tally.examples,
        "answers": _count_answers(run),
        "processes": _list_processes(run),
    }


def _count_answers(run: Run) -> dict[str, list[float | None]]:
    """Return rate and latency of the right answers, in so many parts of the run."""
    width = max(1, math.ceil(run.seconds / MOST_POINTS))
    parts: dict[int, list[float]] = defaultdict(list)
    for second, latencies in run.tally.seconds.items():
        parts[second // width] += latencies
    answers: dict[str, list[float | None]] = {"second": [], "per_second": [], "p50_ms": [], "p99_ms": []}
    # Those of the last part began before the end; a part without answers is one, too.
    for part in range(int(run.seconds // width)):
        latencies = sorted(parts.get(part, []))
        answers["second"].append(part * width)
        answers["per_second"].append(round(len(latencies) / width, 1))
        for share, name in ((0.5, "p50_ms"), (0.99, "p99_ms")):
            answers[name].append(round(1000 * quantile(latencies, share), 2) if latencies else None)
    return answers


def _list_processes(run: Run) -> list[dict[str, Any]]:
    """Return memory and file descriptors of each process, over the time that it lived."""
    lines: dict[tuple[str, int], list[Any]] = defaultdict(list)
    for one in run.samples:
        lines[one.name, one.pid].append(one)
    return [
        {
            "name": name,
            "second": [round(one.second, 1) for one in samples],
            "memory_mib": [round(one.memory_bytes / 2**20, 1) for one in samples],
            "num_fds": [one.num_fds for one in samples],
        }
        for (name, _), samples in lines.items()
    ]


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which that share of the values lies."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
