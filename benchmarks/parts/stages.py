"""The part `stages`: where the time of a loaded instance goes, by its counts and by `kindaware profile`."""

from __future__ import annotations

import re
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.networks import INPUT, NETWORKS
from benchmarks.servers import start as servers
from benchmarks.servers.load import ask, measure
from benchmarks.servers.repository import Served, write_model
from benchmarks.servers.target import Protocol
from kindaware._batch.counters import STAGES
from kindaware.cli.profile._run import measure as measure_stages
from kindaware.cli.profile._stages import EXECUTE
from kindaware.cli.profile._stages import STAGES as PROFILED
from kindaware.testing import ModelHarness, TritonServer

STAGE_NETWORKS = ("mlp", "transformer")
CONCURRENCY = 32
NUM_EXECUTES = 20
SECONDS = 6.0
_FLUSH_SECONDS = 1.1
"""An instance hands its counts over at most once a second."""


def run_stages(
    protocol: Protocol, speed: float, only: Sequence[str], say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure the KindAwareModels, one instance each, 32 requests in flight.

    Returns:
        By network: on the server, microseconds per request by stage, what the rest of the time between two
        batches comes to, and requests per batch; in process, milliseconds per execute by stage.
    """
    networks = [one for one in STAGE_NETWORKS if one in only]
    models = {network: Served("kindaware", network) for network in networks}
    found: dict[str, Any] = {"concurrency": CONCURRENCY, "networks": {}}
    say(f"stages: {', '.join(networks)} on a server")
    with servers.triton(list(models.values()), say) as server:
        for network, served in models.items():
            found["networks"][network] = {"in_stub": _in_stub(server, served, protocol, SECONDS / speed)}
    for network, served in models.items():
        say(f"stages: {network} in process")
        found["networks"][network]["in_process"] = _in_process(served)
    return found


def _in_stub(server: TritonServer, served: Served, protocol: Protocol, seconds: float) -> dict[str, Any]:
    target = servers.target_of(server, served, protocol)
    measure(target, CONCURRENCY, seconds / 3)
    before = _settled(server, served, target)
    started = time.perf_counter()
    measure(target, CONCURRENCY, seconds, settle_seconds=0.0)
    wall = time.perf_counter() - started
    counts = _settled(server, served, target)
    counts.subtract(before)
    num_requests = counts["kindaware_requests_total"]
    stages = {
        stage: counts[f"kindaware_stage_seconds_total:{stage}"] / num_requests * 1e6 for stage in STAGES
    }
    return {
        "requests_per_batch": num_requests / counts["kindaware_batches_total"],
        "us_per_request": {**stages, "rest": wall / num_requests * 1e6 - sum(stages.values())},
    }


def _settled(server: TritonServer, served: Served, target: Any) -> Counter[str]:
    """Read the counts when all that was done is in them; it takes a request more."""
    time.sleep(_FLUSH_SECONDS)
    ask(target)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{server.metrics_url}/metrics", timeout=10) as answer:
        return read_counts(answer.read().decode(), served.name)


def read_counts(text: str, model: str) -> Counter[Any]:
    """Take a model's counts out of the text of `/metrics`: by name, with `:` and the stage if it has one."""
    counts: Counter[Any] = Counter()
    for name, labels, value in re.findall(r"^(kindaware_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        if f'model="{model}"' in labels:
            stage = re.search(r'stage="(\w+)"', labels)
            counts[f"{name}:{stage[1]}" if stage else name] += float(value)
    return counts


def _in_process(served: Served) -> dict[str, Any]:
    rows = NETWORKS[served.network].sample(CONCURRENCY).numpy()
    requests = [{INPUT: rows[n : n + 1]} for n in range(CONCURRENCY)]
    with tempfile.TemporaryDirectory(prefix="kindaware-bench-") as folder:
        path = Path(folder)
        with ModelHarness(write_model(path, served)) as model:
            measured = measure_stages(
                model, requests, num_executes=NUM_EXECUTES, trace=path / "trace.json", about={}
            )
    names = {**{stage: stage for stage in PROFILED if stage in measured.stages}, EXECUTE: "between them"}
    return {
        "ms_per_execute": {
            name: 1e3 * measured.stages[stage] / NUM_EXECUTES for stage, name in names.items()
        },
        "operators_us": {one.name: one.host_us / NUM_EXECUTES for one in measured.operators[:5]},
    }
