"""The part `curve`: throughput and latency of each form as more requests are in flight, and its plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.parts.scenarios import CURVE_CONCURRENCY, CURVE_FORMS, CURVE_NETWORKS, CURVE_SECONDS, Scenario
from benchmarks.parts.serving import going_on, measure_in_turns, open_targets
from benchmarks.servers.target import Protocol, Target
from benchmarks.stats import Spread

_MEASURES = ("requests_per_second", "p50_ms", "p99_ms")


def run_curve(
    protocol: Protocol,
    num_rounds: int,
    speed: float,
    only: Sequence[str],
    say: Callable[[str], None],
    keep: Callable[[dict[str, Any]], object],
) -> dict[str, Any]:
    """Measure the forms in turns at each concurrency, one instance each; `keep` gets what there is so far."""
    networks: dict[str, Any] = {}
    missing: list[str] = []
    seconds = CURVE_SECONDS / speed
    found = {"protocol": protocol, "seconds": seconds, "networks": networks, "not_measured": missing}
    for network in [one for one in CURVE_NETWORKS if one in only]:
        scenario = Scenario(f"{network}, curve", network, 1, max(CURVE_CONCURRENCY), seconds, CURVE_FORMS)
        points = []
        with (
            going_on(scenario.name, missing, say),
            open_targets([scenario], protocol, missing, say) as opened,
        ):
            targets = opened[scenario.name]
            for concurrency in CURVE_CONCURRENCY:
                say(f"{network}, concurrency {concurrency}: {num_rounds} rounds")
                points.append(
                    {"concurrency": concurrency, **_point(targets, concurrency, seconds, num_rounds)}
                )
            networks[network] = points
            keep(found)
    return found


def _point(targets: dict[str, Target], concurrency: int, seconds: float, num_rounds: int) -> dict[str, Any]:
    rounds = measure_in_turns(targets, concurrency, seconds, num_rounds)
    return {
        form: {name: asdict(Spread.of([getattr(one[form], name) for one in rounds])) for name in _MEASURES}
        for form in targets
    }


def plot(curve: dict[str, Any], path: Path) -> None:
    """Draw p50 and p99 latency over throughput, a row per network, a point per concurrency.

    Args:
        curve: what `run_curve` returned.
        path: of the SVG file; equal data give equal files.
    """
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "kindaware"
    from matplotlib import pyplot

    networks = curve["networks"]
    figure, axes = pyplot.subplots(
        len(networks), 2, figsize=(10, 4 * len(networks)), squeeze=False, layout="constrained"
    )
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
    pyplot.close(figure)
