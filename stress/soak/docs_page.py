"""The figures in docs/contributing/stress.md: a block made from the kept result, nothing by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.machine import ROOT

from stress.soak.figures import Figures
from stress.soak.plot import draw
from stress.soak.tally import MEANINGS

PAGE = ROOT / "docs" / "contributing" / "stress.md"
PICTURE = ROOT / "docs" / "_static" / "soak.svg"
BEGIN = "<!-- made by python -m stress.soak --page: begin -->"
END = "<!-- made by python -m stress.soak --page: end -->"


def update(figures: Figures | None) -> Iterator[Path]:
    """Write the block of the page, and the plots; yields what was written."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{make_block(figures)}\n{END}{after}")
    yield PAGE
    if figures is not None:
        PICTURE.write_text(draw(figures) + "\n")
        yield PICTURE


def make_block(figures: Figures | None) -> str:
    """Return the Markdown of a run."""
    if figures is None:
        return "\nNot measured yet: no run is kept.\n"
    return "\n".join(
        ["", *_summarize(figures), "", *_tabulate_bars(figures), "", *_tabulate_outcomes(figures), ""]
    )


def _summarize(figures: Figures) -> Iterator[str]:
    about = figures["run"]
    machine = about["machine"]
    changed = ", with changes that were not committed" if about["uncommitted_changes"] else ""
    faults = [one["kind"] for one in figures["faults"]]
    yield f"One run, with {len(faults)} faults, in {figures['seconds'] / 60:.0f} minutes:"
    yield ""
    yield f"- `{about['command']}`, on {about['date']}; commit {about['commit'][:10]}{changed}"
    yield (
        f"- {machine['processor']}; {machine['cores']} cores, {machine['memory_gib']} GiB; "
        f"load average {machine['load_average'][0]} when it began"
    )
    yield f"- {', '.join(f'{name} {value}' for name, value in about['versions'].items())}"
    yield ""
    yield (
        "![Right answers per second, latency, memory and file descriptors of the server and its processes; "
        "vertical lines are faults](../_static/soak.svg)"
    )
    yield ""
    yield "Red lines are killed processes, blue ones reloads, gray ones killed clients."


def _tabulate_bars(figures: Figures) -> Iterator[str]:
    yield from ("| Bar | Found | |", "|---|---|---|")
    for one in figures["bars"]:
        yield f"| {one['what']} | {one['found']} | {'met' if one['is_met'] else '**missed**'} |"


def _tabulate_outcomes(figures: Figures) -> Iterator[str]:
    names = list(next(iter(figures["outcomes"].values())))
    yield f"| Requests | {' | '.join(f'`{name}`' for name in names)} |"
    yield "|---" * (len(names) + 1) + "|"
    for outcome, by_model in figures["outcomes"].items():
        yield f"| {MEANINGS[outcome]} | {' | '.join(f'{by_model[name]:,}' for name in names)} |"
