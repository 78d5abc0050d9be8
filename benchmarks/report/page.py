"""The figures in docs/performance.md: a block of it is made from the newest results, and nothing by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.parts.curve import plot
from benchmarks.report import tables
from benchmarks.servers.repository import HERE

PAGE = HERE.parent / "docs" / "performance.md"
PLOT = HERE.parent / "docs" / "_static" / "throughput_latency.svg"
BEGIN = "<!-- made by python -m benchmarks page: begin -->"
END = "<!-- made by python -m benchmarks page: end -->"

Run = dict[str, Any]
"""What one result file holds: `run` and `parts`."""


def update(runs: Sequence[Run]) -> Iterator[Path]:
    """Write the block of the page, and the plot; gives what was written."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{make_block(runs)}\n{END}{after}")
    yield PAGE
    run = newest(runs).get("curve")
    if run is not None:
        plot(run["parts"]["curve"], PLOT)
        yield PLOT


def newest(runs: Sequence[Run]) -> dict[str, Run]:
    """Choose for each part the newest run that has it.

    Args:
        runs: the newest first.
    """
    found: dict[str, Run] = {}
    for run in runs:
        for part in run["parts"]:
            found.setdefault(part, run)
    return found


def make_block(runs: Sequence[Run]) -> str:
    """Give the Markdown of all parts that were measured."""
    by_part = newest(runs)
    parts = {part: run["parts"][part] for part, run in by_part.items()}
    if not parts:
        return "\nNot measured yet: no run is kept.\n"
    used = [run for run in runs if any(run is one for one in by_part.values())]
    lines = [*_runs(used, by_part), *tables.bars(parts)]
    for part, table in tables.TABLES.items():
        if part in parts:
            lines += table(parts[part])
        else:
            lines += ["", f"`{part}`: not measured."]
    return "\n".join([*lines, ""])


def _runs(used: Sequence[Run], by_part: dict[str, Run]) -> Iterator[str]:
    for one in used:
        run, machine = one["run"], one["run"]["machine"]
        changed = ", with changes that were not committed" if run["uncommitted_changes"] else ""
        versions = ", ".join(f"{name} {value}" for name, value in run["versions"].items())
        yield from ("", f"Measured with `{run['command']}`:", "")
        yield f"- parts {', '.join(f'`{part}`' for part, its in by_part.items() if its is one)}"
        yield f"- from {run['date']} on, for {run['minutes']} minutes; commit {run['commit'][:10]}{changed}"
        yield f"- {machine['processor']}; {machine['cores']} cores, {machine['memory_gib']} GiB"
        yield (
            f"- {machine['system']}, Linux {machine['kernel']}; load average {machine['load_average'][0]} "
            "when it began"
        )
        yield f"- {versions}"
        yield from (f"- not measured: {part}, {why}" for part, why in run.get("failed", {}).items())
