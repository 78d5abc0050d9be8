"""Export of the instance's counters to Triton's `/metrics`.

A call to Triton costs about 70 us, and one that fails can crash server 2.51. So the counters are accumulated
in this process and exported at most once a second, and only values that Triton is sure to accept.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from kindaware._batch.counters import Counters, Family
from kindaware._config.args import InstanceArgs

INTERVAL_SECONDS = 1.0


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
        # Both by family and value of its label: Triton's metrics, and the values that they have already.
        self._metrics: dict[tuple[Family, str], Any] = {}
        self._handed: dict[tuple[Family, str], float] = {}

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
        for family, label_value, value in counters.exported():
            added = value - self._handed.get((family, label_value), 0.0)
            # Triton's counters take increments, and refuse negative ones.
            if added > 0 or (added and family.kind == "GAUGE"):
                self._metric(family, label_value).increment(added)
                self._handed[family, label_value] = value

    def close(self) -> None:
        """Keep Triton's metrics for as long as the process lives, so that nothing frees them when it ends.

        Freed as the interpreter ends, a metric tells the server through shared memory that is gone by then,
        and the process ends with signal 11. Freed before, it takes its last value with it.
        Source: measured on tritonserver 2.51.0; python_backend `metric.cc`, Metric::SaveToSharedMemory.
        """
        for one in (*self._metrics.values(), *self._families.values()):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))

    def _metric(self, family: Family, label_value: str) -> Any:
        key = family, label_value
        if key not in self._metrics:
            labels = {**self._labels, family.label: label_value} if family.label else self._labels
            self._metrics[key] = self._family(family).Metric(labels=labels)
        return self._metrics[key]

    def _family(self, family: Family) -> Any:
        """Return a metric family, created on first use: a server that is loading models is busy enough."""
        if family.name not in self._families:
            self._families[family.name] = self._new_family(
                name=family.name, description=family.description, kind=getattr(self._new_family, family.kind)
            )
        return self._families[family.name]
