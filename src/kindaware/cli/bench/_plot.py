"""The picture: latency over throughput, a point for each load."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kindaware._errors import ConfigError, OptionError
from kindaware.cli.bench._level import Level

SUFFIXES = (".png", ".svg", ".pdf")
_PERCENTILES = (("p50", "o-", "#1f77b4"), ("p95", "s-", "#ff7f0e"), ("p99", "^:", "#7f7f7f"))


def check_plot(path: Path) -> None:
    """Refuse a picture that can't be written, before anything is measured.

    Raises:
        OptionError: the name has another suffix.
        ConfigError: matplotlib is missing, or there is no such directory.
    """
    wrong = None
    if path.suffix not in SUFFIXES:
        raise OptionError.of(
            f"--plot {path}",
            expected=f"a name that ends in {', '.join(SUFFIXES)}",
            got=repr(path.name),
            remedy="rename it",
        )
    if importlib.util.find_spec("matplotlib") is None:
        wrong = "matplotlib", "no such package", "pip install 'kindaware[plot]'"
    elif not path.absolute().parent.is_dir():
        wrong = "a directory that exists", str(path.parent), "make it, or choose another"
    if wrong is not None:
        expected, got, remedy = wrong
        raise ConfigError.of(f"--plot {path}", expected=expected, got=got, remedy=remedy)


def plot_levels(levels: Sequence[Level], path: Path, *, title: str) -> None:
    """Draw p50, p95 and p99 over requests per second; each point has the number in flight, or the rate.

    Args:
        levels: those without an answer are left out.
        path: of the picture; `check_plot` has seen it.
        title: above the picture.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    drawn = [(level, level.latency_ms) for level in levels if level.latency_ms is not None]
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axis = figure.subplots()
    rates = [level.requests_per_second for level, _ in drawn]
    for name, style, color in _PERCENTILES:
        values = [getattr(latencies, name) for _, latencies in drawn]
        axis.plot(rates, values, style, color=color, markersize=5, linewidth=1.5, label=name)
    for level, latencies in drawn:
        _name_point(axis, f"{level.load.rate or level.load.concurrency:g}", level, latencies.p50)
    axis.set_xlabel("requests per second answered")
    axis.set_ylabel("latency, ms")
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlim(left=0, right=max(rates, default=1.0) * 1.08)
    axis.margins(y=0.12)
    axis.grid(visible=True, which="major", alpha=0.35)
    axis.grid(visible=True, which="minor", axis="y", alpha=0.12)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(title, loc="left", fontsize=12)
    what = "requests per second sent" if any(level.load.rate for level in levels) else "requests in flight"
    figure.legend(
        title=f"percentiles; the numbers are {what}",
        loc="outside lower center",
        ncols=len(_PERCENTILES),
        frameon=False,
    )
    figure.savefig(path)


def _name_point(axis: Any, name: str, level: Level, latency_ms: float) -> None:
    from matplotlib.patheffects import withStroke

    axis.annotate(
        name,
        (level.requests_per_second, latency_ms),
        xytext=(0, -15),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=_PERCENTILES[0][2],
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )
