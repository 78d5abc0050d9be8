"""How loaded a replica's server is: requests that wait, and how busy its instances are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kindaware._server import instances
from kindaware._server.healing.hangs import read_progress
from kindaware.ray._autoscaling import BUSY, PENDING

_TIMED = ("compute_input", "compute_infer", "compute_output")


class LoadMeter:
    """What a replica reports for autoscaling.

    Args:
        num_instances: by model.
        clock: seconds, from any start.
    """

    def __init__(
        self, num_instances: Mapping[str, int], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._num_instances = num_instances
        self._clock = clock
        self._last: tuple[float, dict[str, float]] | None = None

    def read(self, metrics: str, statistics: Iterable[Mapping[str, Any]]) -> dict[str, float]:
        """Return `pending`, a number of requests, and `busy`, from 0 to 1 since the last call.

        Args:
            metrics: the text of the server's metrics.
            statistics: of the models' versions, as the server counts them.
        """
        now, spent = self._clock(), _seconds_by_model(statistics)
        before, was_spent = self._last or (now, spent)
        self._last = (now, spent)
        passed = now - before
        busy = [
            (seconds - was_spent.get(model, 0.0)) / (passed * self._num_instances.get(model, 1))
            for model, seconds in spent.items()
            if passed > 0
        ]
        return {
            PENDING: sum(num_waiting for num_waiting, _ in read_progress(metrics).values()),
            BUSY: min(1.0, max(busy, default=0.0)),
        }


def count_instances(config: Mapping[str, Any]) -> int:
    """Return the number of instances of a model, from its completed configuration; at least 1."""
    return max(1, instances.count_instances(config))


def _seconds_by_model(statistics: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the seconds that the instances of each model have spent in batches."""
    seconds: dict[str, float] = {}
    for version in statistics:
        spent = sum(
            int(batch[part]["ns"])
            for batch in version.get("batch_stats", ())
            for part in _TIMED
            if part in batch
        )
        seconds[version["name"]] = seconds.get(version["name"], 0.0) + spent / 1e9
    return seconds
