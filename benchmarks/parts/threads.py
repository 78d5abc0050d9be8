"""The part `threads`: the number of threads that `auto` measures, against one thread and all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.bars import AUTO_THREADS, threads_scenario
from benchmarks.run import Run
from benchmarks.servers.load import measure_in_turns
from benchmarks.servers.repository import Served
from benchmarks.servers.triton import target_of, tritonserver
from kindaware.cli.bench._stats import Spread, paired_ratio, spreads, values_of

AUTO = "auto"
FIXED: Mapping[str, str] = {"1 thread": "1", "all threads": str(torch.get_num_threads())}
CONCURRENCY = {"resnet50": 8, "efficientnet_lite0": 8}
DEFAULT_CONCURRENCY = 32
SECONDS = {"mlp": 1.5, "transformer": 1.5, "efficientnet_lite0": 2.0, "resnet50": 4.0}


def run_threads(run: Run) -> dict[str, Any]:
    """Compare the number of threads that an instance measures with one thread and with all of them.

    Returns:
        Scenarios with their raw rounds and ratios; what each of several starts chose, and how long it took.
    """
    found: dict[str, Any] = {"scenarios": [], "starts": {}, "not_measured": run.missing}
    for network in run.args.networks:
        for instances in (1, 2):
            run.add(found, threads_scenario(network, instances), partial(_compare, run, network, instances))
        with run.going_on(f"starts of {network}"):
            found["starts"][network] = _starts(run, network)
    return found


def _compare(run: Run, network: str, instances: int) -> dict[str, Any]:
    """Serve a network with each number of threads, in turns."""
    measured = Served("kindaware", network, instances, AUTO)
    fixed = {
        name: Served("kindaware", network, instances, f"fixed_{number}", {"kindaware.num_threads": number})
        for name, number in FIXED.items()
    }
    # Alone on its server while it starts: the others would need the cores on which it measures.
    with tritonserver([measured], run.say) as server, tritonserver(fixed.values(), run.say) as other:
        targets = {AUTO: target_of(server, measured, run.args.client)}
        targets |= {name: target_of(other, served, run.args.client) for name, served in fixed.items()}
        concurrency = CONCURRENCY.get(network, DEFAULT_CONCURRENCY)
        rounds = measure_in_turns(targets, concurrency, run.seconds(SECONDS[network]), run.rounds(11, 2))
        threads = [report.threads for report in server.instances()]
    rates = values_of(rounds, "requests_per_second")
    better = max(FIXED, key=lambda name: np.median(rates[name]))
    return {
        "concurrency": concurrency,
        "threads": threads,
        "better": better,
        "rates": spreads(rates),
        "ratios": {AUTO_THREADS: paired_ratio(rates[AUTO], rates[better])},
        "rounds": rounds,
    }


def _starts(run: Run, network: str) -> dict[str, Any]:
    """Start an instance again and again; return what it chose, and the seconds until it was ready."""
    chosen, seconds = [], []
    for _ in range(run.rounds(10, 2)):
        started = time.monotonic()
        with tritonserver([Served("kindaware", network)], run.say) as server:
            seconds.append(time.monotonic() - started)
            chosen += [f"{one.threads} ({one.threads_reason})" for one in server.instances()]
    return {"chosen": {one: chosen.count(one) for one in sorted(set(chosen))}, "seconds": Spread.of(seconds)}
