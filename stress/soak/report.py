"""The page of a run: the bars, the outcomes, and plots over its time."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from stress.soak.figures import Figures
from stress.soak.plot import COLOURS, draw
from stress.soak.tally import MEANINGS


def write_page(figures: Figures) -> str:
    """Return the page as HTML."""
    title = f"Soak: {figures['requests']:,} requests in {figures['seconds'] / 60:.0f} min"
    colours = ", ".join(f"{colour.removeprefix('tab:')} for a {kind}" for kind, colour in COLOURS.items())
    body = [
        f"<h1>{html.escape(title)}</h1>",
        _table(
            [
                ["Bar", "Found", ""],
                *([one["what"], one["found"], _verdict(one["is_met"])] for one in figures["bars"]),
            ]
        ),
        "<h2>Outcomes</h2>",
        _table(list(_outcomes(figures))),
        "<h2>Over time</h2>",
        f"<p>Vertical lines: {colours}.</p>",
        draw(figures),
        "<h2>Faults</h2>",
        _table(
            [
                ["Second", "Fault", "Model", "Seconds until it served again"],
                *(
                    [f"{one['second']:.0f}", one["kind"], one["model"], f"{one['seconds']:.1f}"]
                    for one in figures["faults"]
                ),
            ]
        ),
        "<h2>What must not be</h2>",
        f"<pre>{html.escape(chr(10).join(figures['examples']) or 'nothing')}</pre>",
        "<h2>Run</h2>",
        _table([["", ""], *_flatten(figures["run"])]),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title>"
        "<style>body{font:15px sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
        "td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ccc;vertical-align:top}"
        "svg{max-width:100%;height:auto}table{border-collapse:collapse;display:block;overflow-x:auto}"
        "pre{white-space:pre-wrap}</style>" + "\n".join(body) + "</html>\n"
    )


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "MISSED"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the first row has the titles of the columns."""
    titles, *others = [[html.escape(cell) for cell in row] for row in rows]
    lines = ["".join(f"<th>{cell}</th>" for cell in titles)] if any(titles) else []
    lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in others]
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _outcomes(figures: Figures) -> Iterator[list[str]]:
    names = list(next(iter(figures["outcomes"].values())))
    yield ["", *names, "all"]
    for outcome, by_model in figures["outcomes"].items():
        counts = [by_model[name] for name in names]
        yield [f"{outcome}: {MEANINGS[outcome]}", *(f"{one:,}" for one in counts), f"{sum(counts):,}"]


def _flatten(about: Figures) -> Iterator[list[str]]:
    for name, value in about.items():
        if isinstance(value, dict):
            yield from _flatten(value)
        else:
            yield [name, str(value)]
