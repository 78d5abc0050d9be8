"""The plots of the parts `curve`, `step`, `padding`, `sharing` and `overlap`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(parts: dict[str, Any], folder: Path) -> Iterator[Path]:
    """Draw the plots of those parts that have one into a folder, and yield what was written."""
    folder.mkdir(exist_ok=True)
    if parts.get("curve", {}).get("networks"):
        plot_networks(parts["curve"]["networks"], folder / "throughput_latency.svg")
        yield folder / "throughput_latency.svg"
    if parts.get("step", {}).get("curve"):
        plot_streams(parts["step"]["curve"], folder / "streams.svg")
        yield folder / "streams.svg"
    if parts.get("padding", {}).get("scenarios"):
        plot_padding(parts["padding"]["scenarios"], folder / "padding.svg")
        yield folder / "padding.svg"
    if parts.get("sharing", {}).get("scenarios"):
        plot_sharing(parts["sharing"]["scenarios"][0]["measures"], folder / "sharing.svg")
        yield folder / "sharing.svg"
    if parts.get("overlap", {}).get("timeline"):
        plot_timelines(parts["overlap"]["timeline"], folder / "overlap_timeline.svg")
        yield folder / "overlap_timeline.svg"


def plot_networks(networks: dict[str, Any], path: Path) -> None:
    """Draw p50 and p99 latency over throughput, a row per network, a point per concurrency.

    Args:
        networks: what the part `curve` has found, by network.
        path: of the SVG file; equal data give equal files.
    """
    figure = _figure(height=4 * len(networks))
    axes = figure.subplots(len(networks), 2, squeeze=False)
    for row, (network, points) in zip(axes, networks.items(), strict=True):
        for axis, measure_name in zip(row, ("p50_ms", "p99_ms"), strict=True):
            for form in [name for name in points[0] if name != "concurrency"]:
                rates = [point[form]["requests_per_second"]["median"] for point in points]
                latencies = [point[form][measure_name]["median"] for point in points]
                axis.plot(rates, latencies, marker="o", markersize=3, label=form)
            axis.set_yscale("log")
            axis.set_xlabel("requests per second")
            axis.set_ylabel(f"{measure_name.removesuffix('_ms')} latency, ms")
            concurrency = [point["concurrency"] for point in points]
            axis.set_title(f"{network}, {concurrency[0]} to {concurrency[-1]} requests in flight")
            axis.grid(visible=True, alpha=0.3)
    _save_with_legend(figure, path)


def plot_streams(points: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw tokens per second and the time to the first one, a point per number of streams.

    Args:
        points: the curve that the part `step` has found.
        path: of the SVG file; equal data give equal files.
    """
    figure = _figure(height=4)
    numbers = [point["streams"] for point in points]
    for axis, measure in zip(figure.subplots(1, 2), ("tokens per second", "first one, ms"), strict=True):
        for form in points[0]["measures"][measure]:
            medians = [point["measures"][measure][form]["median"] for point in points]
            axis.plot(numbers, medians, marker="o", markersize=3, label=form)
        axis.set_xscale("log", base=2)
        axis.set_xticks(numbers, [str(number) for number in numbers])
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
        axis.set_xlabel("streams at once")
        axis.set_ylabel(measure)
        axis.grid(visible=True, alpha=0.3)
    _save_with_legend(figure, path)


def plot_padding(scenarios: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw requests per second by `max_padding`, a plot per mix of lengths.

    Args:
        scenarios: those of the part `padding`.
        path: of the SVG file; equal data give equal files.
    """
    figure = _figure(height=2.4)
    for axis, one in zip(figure.subplots(1, len(scenarios), squeeze=False)[0], scenarios, strict=True):
        _bars(axis, one["rates"])
        axis.set_title(one["name"])
        axis.set_xlabel("requests per second")
    _save(figure, path)


def plot_sharing(measures: dict[str, Any], path: Path) -> None:
    """Draw the memory and the load time of one and of four instances, by how they load.

    Args:
        measures: of the part `sharing`, by name and form.
        path: of the SVG file; equal data give equal files.
    """
    figure = _figure(height=2.8)
    for axis, (name, spreads) in zip(figure.subplots(1, len(measures)), measures.items(), strict=True):
        _bars(axis, spreads)
        axis.set_xlabel(name)
    _save(figure, path)


def _bars(axis: Any, spreads: dict[str, Any]) -> None:
    """Draw medians as bars with their figures, and quartiles as whiskers, the first one on top."""
    medians = [one["median"] for one in spreads.values()]
    whiskers = [
        [one["median"] - one["lower"] for one in spreads.values()],
        [one["upper"] - one["median"] for one in spreads.values()],
    ]
    bars = axis.barh(list(spreads), medians, xerr=whiskers, height=0.6, error_kw={"elinewidth": 0.8})
    axis.bar_label(
        bars,
        fmt=lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.3g}",
        padding=12,
        fontsize="small",
    )
    axis.margins(x=0.25)
    axis.invert_yaxis()
    axis.grid(visible=True, axis="x", alpha=0.3)


HOST_LANES = ("read", "batch", "respond")
"""Stages of the host that hold all others, which would lie on top of them."""


def plot_timelines(timelines: dict[str, Any], path: Path) -> None:
    """Draw what host and device did when: a row per form, on one axis of time.

    Args:
        timelines: by form, what the part `overlap` has recorded.
        path: of the SVG file; equal data give equal files.
    """
    figure = _figure(height=2.6 * len(timelines))
    lanes = [f"host: {one}" for one in HOST_LANES] + ["copy in", "compute", "copy out"]
    # Unless both have one axis, the shorter one looks as long as the other.
    for axis, (form, bars) in zip(
        figure.subplots(len(timelines), 1, sharex=True, squeeze=False)[:, 0], timelines.items(), strict=True
    ):
        for row, lane in enumerate(lanes):
            spans = [
                (one["start_ms"], one["end_ms"] - one["start_ms"]) for one in bars if one["lane"] == lane
            ]
            colour = "C0" if lane.startswith("host") else "C1"
            axis.broken_barh(spans, (row - 0.4, 0.8), facecolors=colour, edgecolors="white", linewidth=0.3)
        axis.set_yticks(range(len(lanes)), [one if "host" in one else f"GPU: {one}" for one in lanes])
        axis.invert_yaxis()
        axis.set_title(form)
        axis.grid(visible=True, axis="x", alpha=0.3)
    axis.set_xlabel("ms since the first call")
    _save(figure, path)


def _figure(height: float) -> Figure:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "kindaware"
    return Figure(figsize=(10, height), layout="constrained")


def _save_with_legend(figure: Figure, path: Path) -> None:
    """Write a figure with one legend for all its axes."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
