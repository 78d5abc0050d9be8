"""The part `stages`: where the time of a loaded instance goes, by its counts and by `kindaware profile`."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from typing import Any

import numpy as np

from benchmarks.networks import INPUT, NETWORKS
from benchmarks.run import Run
from benchmarks.servers.load import ask, measure
from benchmarks.servers.repository import Served, repository
from benchmarks.servers.target import Target
from benchmarks.servers.triton import target_of, tritonserver
from kindaware._batch.counters import TIMED_STAGES
from kindaware.testing import TritonServer

CONCURRENCY = 32
SECONDS = 6.0
_FLUSH_SECONDS = 1.1
"""An instance hands its counts over at most once a second."""

_PROFILE_ROW = re.compile(r"^  (\w+(?: \w+)*) +[\d.]+ +([\d.]+) +[\d.]+ +[\d.]+%$", re.MULTILINE)
"""Stage, total ms, ms per execute, us per request, share."""


def run_stages(run: Run) -> dict[str, Any]:
    """Measure where the time of a loaded instance goes, with 32 requests in flight.

    Returns:
        By network: on the server, microseconds per request by stage, what the rest of the time between two
        batches comes to, and requests per batch; in process, milliseconds per execute by stage.
    """
    networks = [one for one in ("mlp", "transformer") if one in run.args.networks]
    models = {network: Served("kindaware", network) for network in networks}
    found: dict[str, Any] = {"concurrency": CONCURRENCY, "networks": {}}
    run.say(f"stages: {', '.join(networks)} on a server")
    with tritonserver(models.values(), run.say) as server:
        for network, served in models.items():
            target = target_of(server, served, run.args.client)
            in_stub = _in_stub(server, served, target, run.seconds(SECONDS))
            found["networks"][network] = {"in_stub": in_stub}
    for network, served in models.items():
        run.say(f"stages: {network} in process")
        found["networks"][network]["in_process"] = {"ms_per_execute": _in_process(served)}
    return found


def _in_stub(server: TritonServer, served: Served, target: Target, seconds: float) -> dict[str, Any]:
    measure(target, CONCURRENCY, seconds / 3)
    before = _settled(server, served, target)
    started = time.perf_counter()
    measure(target, CONCURRENCY, seconds, settle_seconds=0.0)
    wall = time.perf_counter() - started
    counts = _settled(server, served, target)
    counts.subtract(before)
    num_requests = counts["kindaware_requests_total"]
    stages = {
        stage: counts[f"kindaware_stage_seconds_total:{stage}"] / num_requests * 1e6 for stage in TIMED_STAGES
    }
    return {
        "requests_per_batch": num_requests / counts["kindaware_batches_total"],
        "us_per_request": {**stages, "rest": wall / num_requests * 1e6 - sum(stages.values())},
    }


def _settled(server: TritonServer, served: Served, target: Target) -> Counter[str]:
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


def _in_process(served: Served) -> dict[str, float]:
    """Run `kindaware profile` in a process of its own, and read its table: milliseconds by stage."""
    with repository([served]) as folder:
        np.save(folder / "rows.npy", NETWORKS[served.network].sample(CONCURRENCY).numpy())
        options = [f"--requests={CONCURRENCY}", f"--data={INPUT}={folder}/rows.npy"]
        command = [sys.executable, "-m", "kindaware.cli", "profile", str(folder / served.name), *options]
        command.append(f"--output={folder}/trace.json")
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    times = {stage: float(ms) for stage, ms in _PROFILE_ROW.findall(text)}
    times.pop("execute")  # the sum of the others
    return times
