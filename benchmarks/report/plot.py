"""The plots of the parts `curve` and `step`."""

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
    _save(figure, path)


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
    _save(figure, path)


def _figure(height: float) -> Figure:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "kindaware"
    return Figure(figsize=(10, height), layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    """Write a figure with one legend for all its axes."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.savefig(path, metadata={"Date": None})
