"""Export of the instance's counters to Triton's `/metrics`.

A call to Triton costs about 70 us, and one that fails can crash server 2.51. So the counters are accumulated
in this process and exported at most once a second, and only values that Triton is sure to accept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from kindaware._batch.counters import TIMED_STAGES, Counters
from kindaware._config.args import InstanceArgs

INTERVAL_SECONDS = 1.0

FAMILIES = {
    "kindaware_batches_total": "Batches that were answered",
    "kindaware_requests_total": "Requests in the batches that were answered",
    "kindaware_rows_total": "Rows in the batches that were answered",
    "kindaware_stage_seconds_total": f"Seconds of the host by stage: {', '.join(TIMED_STAGES)}",
    "kindaware_errors_total": "Requests that got an error, by Triton's code",
    "kindaware_retries_total": "Further forwards after one that raised",
    "kindaware_out_of_memory_total": "Batches that were halved because memory ran out",
    "kindaware_copied_bytes_total": "Bytes copied, by direction: in to the device, out to the host",
}
"""Name and description of each metric family; all are of the kind COUNTER."""


class Metrics:
    """Exports an instance's counters to Triton.

    Args:
        pb_utils: Triton's module, or a stand-in.
        labels: labels of every metric: model, version, instance, device.
        clock: returns the time in seconds.

    Attributes:
        due_at: when `flush` is due, in seconds of the clock: a second after the last flush.
    """

    def __init__(
        self,
        pb_utils: ModuleType,
        labels: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._labels = dict(labels)
        self._clock = clock
        self.due_at = clock() + INTERVAL_SECONDS
        self._new_family = pb_utils.MetricFamily
        self._families: dict[str, Any] = {}
        # Both by the keys of `_values`: Triton's metrics, and the values that they have already.
        self._metrics: dict[tuple[str, str, str], Any] = {}
        self._handed: dict[tuple[str, str, str], float] = {}

    @classmethod
    def of_instance(cls, pb_utils: ModuleType, args: InstanceArgs, devices: Sequence[object]) -> Metrics:
        """Return the metrics of an instance, with labels that identify it."""
        labels = {
            "model": args.model_name,
            "version": args.model_version,
            "instance": args.instance_name,
            "device": ",".join(map(str, devices)),
        }
        return cls(pb_utils, labels)

    def flush(self, counters: Counters) -> None:
        """Export the counters that have changed; each costs a call to the server's process, about 70 us."""
        self.due_at = self._clock() + INTERVAL_SECONDS
        for key, value in _values(counters).items():
            added = value - self._handed.get(key, 0.0)
            # Triton's counters take increments, and refuse negative ones.
            if added > 0:
                self._metric(key).increment(added)
                self._handed[key] = value

    def _metric(self, key: tuple[str, str, str]) -> Any:
        if key not in self._metrics:
            name, label, value = key
            labels = {**self._labels, label: value} if label else self._labels
            self._metrics[key] = self._family(name).Metric(labels=labels)
        return self._metrics[key]

    def _family(self, name: str) -> Any:
        """Return a metric family, created on first use: a server that is loading models is busy enough."""
        if name not in self._families:
            self._families[name] = self._new_family(
                name=name, description=FAMILIES[name], kind=self._new_family.COUNTER
            )
        return self._families[name]


def _values(counters: Counters) -> dict[tuple[str, str, str], float]:
    """Return the counters by metric family, additional label and value of that label; "" for no label."""
    values: dict[tuple[str, str, str], float] = {
        ("kindaware_batches_total", "", ""): counters.batches,
        ("kindaware_requests_total", "", ""): counters.requests,
        ("kindaware_rows_total", "", ""): counters.rows,
        ("kindaware_retries_total", "", ""): counters.retries,
        ("kindaware_out_of_memory_total", "", ""): counters.out_of_memory,
    }
    for stage in TIMED_STAGES:
        values["kindaware_stage_seconds_total", "stage", stage] = counters.seconds[stage]
    for code, number in counters.errors.items():
        values["kindaware_errors_total", "code", code] = number
    for direction, number in counters.bytes_copied.items():
        values["kindaware_copied_bytes_total", "direction", direction] = number
    return values
