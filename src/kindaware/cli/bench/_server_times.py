"""What the server itself says about a measurement: the time in its queue, in the model, and its batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_DURATIONS = ("queue", "compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True)
class ServerTimes:
    """Means over the requests of a measurement.

    Attributes:
        queue_ms: from a request's arrival until the model gets it.
        compute_ms: from there until the model's answer is on its way back.
        rows_per_batch: rows of one execution, as the server formed them.
    """

    queue_ms: float
    compute_ms: float
    rows_per_batch: float


def count(statistics: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Add up counts and nanoseconds of all versions; over gRPC numbers are text, and zeros left out."""
    counts: Counter[str] = Counter()
    for version in statistics:
        for name in ("inference_count", "execution_count"):
            counts[name] += int(version.get(name, 0))
        for name in _DURATIONS:
            duration = version.get("inference_stats", {}).get(name, {})
            counts[f"{name}_count"] += int(duration.get("count", 0))
            counts[f"{name}_ns"] += int(duration.get("ns", 0))
    return counts


def compare(before: Counter[str], after: Counter[str]) -> ServerTimes | None:
    """Return the means of what was counted in between; None if no request was answered."""
    change = Counter({name: number - before[name] for name, number in after.items()})
    requests = change["compute_infer_count"]
    if not requests or not change["execution_count"]:
        return None
    compute = sum(change[f"{name}_ns"] for name in _DURATIONS if name != "queue")
    return ServerTimes(
        queue_ms=change["queue_ns"] / requests / 1e6,
        compute_ms=compute / requests / 1e6,
        rows_per_batch=change["inference_count"] / change["execution_count"],
    )
