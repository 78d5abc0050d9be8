"""The part `starts`: how long a compiled model takes to be ready, the first time and from the cache."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmarks.bars import FROM_CACHE, starts_scenario
from benchmarks.run import Run
from benchmarks.servers.cache_folder import cache_in
from benchmarks.servers.repository import Served
from benchmarks.servers.triton import tritonserver
from kindaware.cli.bench._stats import paired_ratio, spreads

AS_IT_IS, FIRST, SECOND = "as it is", "compiled, first start", "compiled, second start"
_COMPILED = {"kindaware.compile": "default", "kindaware.compile_cache": "true"}
PARAMETERS: Mapping[str, Mapping[str, str]] = {AS_IT_IS: {}, FIRST: _COMPILED, SECOND: _COMPILED}


def run_starts(run: Run) -> dict[str, Any]:
    """Start a server with one model as it is, compiled with an empty cache, and compiled once more.

    The seconds are those until the server is ready, imports and the warm-up included; beside them those of
    the load alone, as the instance logs it. The number of threads is given, so that none is measured.

    Returns:
        Scenarios by network, with raw rounds.
    """
    found: dict[str, Any] = {"scenarios": [], "not_measured": run.missing}
    for network in run.args.networks:
        run.add(found, starts_scenario(network), partial(_compare, run, network))
    return found


def _compare(run: Run, network: str) -> dict[str, Any]:
    rounds = []
    for _ in range(run.rounds(10, 2)):
        with tempfile.TemporaryDirectory(prefix="kindaware-bench-") as folder, cache_in(folder):
            rounds.append({name: _start(network, settings) for name, settings in PARAMETERS.items()})
    ready, load = (
        {name: [one[name][key] for one in rounds] for name in PARAMETERS} for key in ("ready", "load")
    )
    return {
        "measures": {"Ready, s": spreads(ready), "Load, s": spreads(load)},
        "ratios": {
            FROM_CACHE: paired_ratio(ready[SECOND], ready[AS_IT_IS]),
            "ready: compiled, first start / as it is": paired_ratio(ready[FIRST], ready[AS_IT_IS]),
        },
        "rounds": rounds,
    }


def _start(network: str, settings: Mapping[str, str]) -> dict[str, float]:
    served = Served("kindaware", network, parameters={"kindaware.num_threads": "share", **settings})
    started = time.monotonic()
    with tritonserver([served], lambda _: None) as server:
        return {
            "ready": time.monotonic() - started,
            "load": max(one.load_seconds for one in server.instances()),
        }
