"""The figures in docs/explanation/performance.md: a block made from the newest results, nothing by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bars import BARS
from benchmarks.machine import ROOT
from benchmarks.report.plot import draw
from benchmarks.report.tables import TABLES, judge

PAGE = ROOT / "docs" / "explanation" / "performance.md"
PICTURES = ROOT / "docs" / "_static"
BEGIN = "<!-- made by python -m benchmarks page: begin -->"
END = "<!-- made by python -m benchmarks page: end -->"

Result = dict[str, Any]
"""What one result file holds: `run` and `parts`."""


def update(runs: Sequence[Result]) -> Iterator[Path]:
    """Write the block of the page, and the plots; yields what was written."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{make_block(runs)}\n{END}{after}")
    yield PAGE
    yield from draw({part: run["parts"][part] for part, run in newest(runs).items()}, PICTURES)


def newest(runs: Sequence[Result]) -> dict[str, Result]:
    """Choose for each part the newest run that has it.

    Args:
        runs: the newest first.
    """
    found: dict[str, Result] = {}
    for run in runs:
        for part in run["parts"]:
            found.setdefault(part, run)
    return found


def make_block(runs: Sequence[Result]) -> str:
    """Return the Markdown of all parts that were measured."""
    by_part = newest(runs)
    parts = {part: run["parts"][part] for part, run in by_part.items()}
    if not parts:
        return "\nNot measured yet: no run is kept.\n"
    lines = list(judge(parts, BARS))
    for part, table in TABLES.items():
        lines += table(parts[part]) if part in parts else ["", f"`{part}`: not measured."]
    lines += ["", "### Machines and versions"]
    for run in runs:
        its_parts = [part for part, one in by_part.items() if one is run]
        if its_parts:
            lines += _describe(run["run"], its_parts)
    return "\n".join([*lines, ""])


def _describe(run: dict[str, Any], parts: Sequence[str]) -> Iterator[str]:
    machine = run["machine"]
    changed = ", with changes that were not committed" if run["uncommitted_changes"] else ""
    yield from ("", f"Measured with `{run['command']}`:", "")
    yield f"- parts {', '.join(f'`{part}`' for part in parts)}"
    yield f"- from {run['date']} on, for {run['minutes']} minutes; commit {run['commit'][:10]}{changed}"
    yield f"- {machine['processor']}; {machine['cores']} cores, {machine['memory_gib']} GiB"
    yield (
        f"- {machine['system']}, Linux {machine['kernel']}; load average {machine['load_average'][0]} "
        "when it began"
    )
    yield f"- {', '.join(f'{name} {value}' for name, value in run['versions'].items())}"
    yield from (f"- not measured: {part}, {why}" for part, why in run.get("failed", {}).items())
