"""The page of a run: the bars, the outcomes, and plots over its time."""

from __future__ import annotations

import html
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from stress.soak.bars import Bar
from stress.soak.run import NAMES, Run
from stress.soak.tally import MEANINGS

_COLOURS = {"kill": "tab:red", "reload": "tab:blue", "kill client": "tab:gray"}


def write_page(run: Run, bars: Sequence[Bar], about: dict[str, str]) -> str:
    """Return the page as HTML.

    Args:
        run: the run.
        bars: its bars.
        about: the command, the machine and the versions.
    """
    title = f"Soak: {run.tally.num_requests:,} requests in {run.seconds / 60:.0f} min"
    body = [
        f"<h1>{html.escape(title)}</h1>",
        _table(
            [["", "Found", ""], *([one.what, one.found, "met" if one.is_met else "MISSED"] for one in bars)]
        ),
        "<h2>Outcomes</h2>",
        _table(list(_outcomes(run))),
        "<h2>Over time</h2>",
        f"<p>Lines: {', '.join(f'{colour[4:]} for a {kind}' for kind, colour in _COLOURS.items())}.</p>",
        _draw(run),
        "<h2>Faults</h2>",
        _table(
            [
                ["Second", "Fault", "Model", "Seconds until it served again"],
                *([f"{one.second:.0f}", one.kind, one.model, f"{one.seconds:.1f}"] for one in run.faults),
            ]
        ),
        "<h2>What must not be</h2>",
        f"<pre>{html.escape(chr(10).join(run.tally.examples) or 'nothing')}</pre>",
        "<h2>Run</h2>",
        _table([[name, text] for name, text in about.items()]),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title>"
        "<style>body{font:15px sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
        "td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ccc}svg{max-width:100%;height:auto}"
        "table{border-collapse:collapse}pre{overflow-x:auto}</style>" + "\n".join(body) + "</html>\n"
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _outcomes(run: Run) -> Iterator[list[str]]:
    yield ["", *NAMES, "all"]
    for outcome, meaning in MEANINGS.items():
        by_model = [run.tally.outcomes[name][outcome] for name in NAMES]
        yield [f"{outcome}: {meaning}", *(f"{one:,}" for one in by_model), f"{sum(by_model):,}"]


def _draw(run: Run) -> str:
    """Return the plots as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 13), layout="constrained")
    rate, latency, memory, fds = figure.subplots(4, sharex=True)
    seconds = sorted(run.tally.seconds)
    rate.plot(seconds, [len(run.tally.seconds[one]) for one in seconds], linewidth=0.7)
    rate.set_ylabel("right answers per second")
    for share, label in ((0.5, "p50"), (0.99, "p99")):
        values = [_quantile(run.tally.seconds[one], share) * 1e3 for one in seconds]
        latency.plot(seconds, values, linewidth=0.7, label=label)
    latency.set_yscale("log")
    latency.set_ylabel("latency, ms")
    latency.legend()
    lines: dict[tuple[str, int], list[Any]] = defaultdict(list)
    for one in run.samples:
        lines[one.name, one.pid].append(one)
    colours = {name: f"C{n}" for n, name in enumerate(dict.fromkeys(name for name, _ in lines))}
    labelled: set[str] = set()
    for (name, _), samples in lines.items():
        x, label = [one.second for one in samples], None if name in labelled else name
        labelled.add(name)
        memory.plot(x, [one.memory_bytes / 2**20 for one in samples], color=colours[name], label=label)
        fds.plot(x, [one.num_fds for one in samples], color=colours[name])
    memory.set_ylabel("resident memory, MiB")
    memory.legend(ncols=4)
    fds.set_ylabel("file descriptors")
    fds.set_xlabel("seconds")
    for plot in (rate, latency, memory, fds):
        plot.set_ylim(bottom=None if plot is latency else 0)
        for fault in run.faults:
            plot.axvline(fault.second, color=_COLOURS[fault.kind], linewidth=0.4, alpha=0.6)
    written = io.StringIO()
    figure.savefig(written, format="svg")
    return written.getvalue()[written.getvalue().index("<svg") :]


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
