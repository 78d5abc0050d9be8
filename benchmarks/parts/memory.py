"""The part `memory`: what an instance's process holds, over many requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.run import Run
from benchmarks.servers.load import measure
from benchmarks.servers.repository import Served
from benchmarks.servers.triton import target_of, tritonserver

MODEL = Served("kindaware", "mlp")
CONCURRENCY = 32
NUM_SAMPLES = 20


def run_memory(run: Run) -> dict[str, Any]:
    """Read the memory of an instance from time to time, over 100,000 requests.

    Returns:
        Samples: requests so far; MiB resident; MiB of it that no file backs, which is where a leak shows. And
        by how much the latter grew over the second half.
    """
    num_requests = run.choose(100_000, 10_000)
    samples: list[dict[str, float]] = []
    with tritonserver([MODEL], run.say) as server:
        target = target_of(server, MODEL, run.args.client)
        (stub,) = [pid for pid in descendants(server.pid) if f"/{MODEL.name}/" in command_of(pid)]
        measure(target, CONCURRENCY, 2.0)
        sent = 0
        while sent < num_requests:
            while sent < num_requests * (len(samples) + 1) / NUM_SAMPLES:
                sent += measure(target, CONCURRENCY, 0.5, settle_seconds=0.0).num_requests
            memory = read_memory(stub)
            samples.append({"requests": sent, **memory})
            run.say(
                f"memory: {sent} requests, {', '.join(f'{key} {mib:.1f}' for key, mib in memory.items())}"
            )
    half = samples[len(samples) // 2 :]
    growth = half[-1]["anonymous_mib"] - half[0]["anonymous_mib"]
    return {"model": MODEL.name, "samples": samples, "growth_in_second_half_mib": growth}


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those that they have."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            listed = children.read_text()
        except OSError:  # the thread has ended meanwhile
            continue
        for child in map(int, listed.split()):
            yield child
            yield from descendants(child)


def read_memory(pid: int) -> dict[str, float]:
    """Return the resident memory of a process, all of it and the part that no file backs, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    kib = {key: int(fields[key].split()[0]) for key in ("VmRSS", "RssAnon")}
    return {"resident_mib": kib["VmRSS"] / 1024, "anonymous_mib": kib["RssAnon"] / 1024}


def command_of(pid: int) -> str:
    """Return the command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text()
