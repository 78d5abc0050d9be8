"""The part `curve`: throughput and latency of each form as more requests are in flight."""

from __future__ import annotations

from typing import Any

from benchmarks.parts.scenarios import CURVE_CONCURRENCY, CURVES
from benchmarks.parts.serving import open_targets
from benchmarks.run import Run
from benchmarks.servers.load import measure_in_turns
from benchmarks.servers.target import Target
from kindaware.cli.bench._stats import Spread, values_of

_MEASURES = ("requests_per_second", "p50_ms", "p99_ms")


def run_curve(run: Run) -> dict[str, Any]:
    """Measure throughput and latency of each form at 1 to 64 requests in flight, and plot them."""
    networks: dict[str, Any] = {}
    found = {"protocol": run.args.client, "networks": networks, "not_measured": run.missing}
    num_rounds = run.rounds(3, 1)
    scenarios = [one for one in CURVES if one.network in run.args.networks]
    for scenario in scenarios[: run.choose(len(CURVES), 1)]:
        with run.going_on(scenario.name), open_targets(run, [scenario]) as opened:
            points = []
            for concurrency in CURVE_CONCURRENCY:
                run.say(f"{scenario.network}, concurrency {concurrency}: {num_rounds} rounds")
                seconds = run.seconds(scenario.seconds)
                points.append(_point(opened[scenario.name], concurrency, seconds, num_rounds))
            networks[scenario.network] = points
            run.keep(found)
    return found


def _point(targets: dict[str, Target], concurrency: int, seconds: float, num_rounds: int) -> dict[str, Any]:
    rounds = measure_in_turns(targets, concurrency, seconds, num_rounds)
    values = {measure: values_of(rounds, measure) for measure in _MEASURES}
    forms = {form: {name: Spread.of(values[name][form]) for name in _MEASURES} for form in targets}
    return {"concurrency": concurrency, **forms}
