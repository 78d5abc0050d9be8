"""How long batches take on a server, measured by its own statistics while all instances are busy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kindaware._config.model_spec import instance_groups_of
from kindaware._errors import ConfigError
from kindaware.cli.bench._load import Load, Tally, run_load
from kindaware.cli.bench._progress import Progress
from kindaware.cli.bench._subject import Subject
from kindaware.cli.bench._sweep import Duration, measure
from kindaware.cli.bench._target import Target
from kindaware.cli.size._queue import Service

_FEWEST = 10
"""Batches of a size, below which their mean says nothing."""

_MOST_FACTORS = 2000
_PHASES = ("compute_input", "compute_infer", "compute_output")


def measure_service(subject: Subject, target: Target, duration: Duration, progress: Progress) -> Service:
    """Measure a model's batches, from one request in flight to more than fit into a batch of each instance.

    Raises:
        ConfigError: the model doesn't batch as the queue's model assumes, or refuses the request.
    """
    config = subject.config
    largest = max(1, int(config.get("max_batch_size", 0))) if "dynamic_batching" in config else 1
    instances = sum(one.num_instances for one in instance_groups_of(config)) or 1
    alone = Tally()
    with progress.step("1 request in flight", duration.total):
        level = measure(subject, target, Load(1), duration, 1, alone)
    if level.server is None:
        raise ConfigError.of(
            f"model {subject.model!r}",
            expected="statistics of its requests",
            got="none",
            remedy="measure a server whose statistics aren't restricted",
        )
    own = (level.server.compute_ms + level.server.queue_ms) / 1e3
    overhead = max(float(np.mean(alone.latencies)) - own, 0.0)
    before = read_batches(subject.statistics())
    for clients in choose_clients(instances, largest):
        with progress.step(f"{clients} requests in flight", duration.total):
            run_load(
                target,
                Load(clients),
                duration.seconds,
                warmup_seconds=duration.warmup_seconds,
                timeout_seconds=duration.timeout_seconds,
            )
    times = compare_batches(before, read_batches(subject.statistics()))
    factors = (np.asarray(alone.latencies) - overhead) / (level.server.compute_ms / 1e3)
    return Service(
        tuple(interpolate(times, largest)),
        instances,
        overhead,
        tuple(np.maximum(factors, 0.1)[:_MOST_FACTORS].tolist()),
        read_delay(config),
    )


def choose_clients(num_instances: int, largest: int) -> list[int]:
    """Return numbers of requests in flight that make batches of all sizes: twice as many as fit are most.

    While a batch runs, the other requests wait for the next one, so it takes twice as many.
    """
    clients = [num_instances]
    while clients[-1] < 2 * num_instances * largest:
        clients.append(2 * clients[-1])
    return clients


def read_batches(statistics: Sequence[Mapping[str, Any]]) -> dict[int, Counter[str]]:
    """Return executions and their nanoseconds by the size of the batch, of all versions."""
    found: dict[int, Counter[str]] = {}
    for version in statistics:
        for batch in version.get("batch_stats", ()):
            counted = found.setdefault(int(batch["batch_size"]), Counter())
            counted["executions"] += int(batch.get("compute_infer", {}).get("count", 0))
            counted["ns"] += sum(int(batch.get(phase, {}).get("ns", 0)) for phase in _PHASES)
    return found


def compare_batches(
    before: Mapping[int, Counter[str]], after: Mapping[int, Counter[str]]
) -> dict[int, tuple[float, int]]:
    """Return the mean seconds of a batch and the number of batches, by size, of what has changed."""
    found = {}
    for rows, counted in after.items():
        change = Counter(counted)
        change.subtract(before.get(rows, Counter()))
        if change["executions"]:
            found[rows] = (change["ns"] / change["executions"] / 1e9, change["executions"])
    return found


def interpolate(times: Mapping[int, tuple[float, int]], largest: int) -> list[float]:
    """Return the seconds of a batch of each size; a larger batch never takes less than a smaller one.

    Args:
        times: seconds and number of batches, by size; at least one size.
        largest: size of a batch.
    """
    often = {rows: one for rows, one in times.items() if one[1] >= _FEWEST} or dict(times)
    sizes = sorted(often)
    seconds = np.maximum.accumulate([often[rows][0] for rows in sizes])
    wanted = np.arange(1, largest + 1)
    found = np.interp(wanted, sizes, seconds)
    if len(sizes) > 1 and sizes[-1] < largest:
        slope = (seconds[-1] - seconds[0]) / (sizes[-1] - sizes[0])
        beyond = wanted > sizes[-1]
        found[beyond] = seconds[-1] + slope * (wanted[beyond] - sizes[-1])
    return [float(one) for one in found]


def read_delay(config: Mapping[str, Any]) -> float:
    """Return how long the dynamic batcher waits for a batch to fill, in seconds."""
    batching = config.get("dynamic_batching") or {}
    return int(batching.get("max_queue_delay_microseconds", 0)) / 1e6
