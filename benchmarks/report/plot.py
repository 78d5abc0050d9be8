"""The plot of the part `curve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def plot(curve: dict[str, Any], path: Path) -> None:
    """Draw p50 and p99 latency over throughput, a row per network, a point per concurrency.

    Args:
        curve: what the part has found.
        path: of the SVG file; equal data give equal files.
    """
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "kindaware"
    networks = curve["networks"]
    figure = Figure(figsize=(10, 4 * len(networks)), layout="constrained")
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
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.savefig(path, metadata={"Date": None})
