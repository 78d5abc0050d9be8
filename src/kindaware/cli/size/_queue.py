"""A server with instances that batch what waits, as a queue: simulated, request by request."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Service:
    """How long a server takes for what it has; all times in seconds.

    Attributes:
        seconds: of a batch, by its number of requests less one; as long as the largest batch.
        num_instances: that take batches beside each other.
        overhead_seconds: of a request, besides its wait and its batch: the network, the server, the client.
        factors: by which a batch took longer or shorter than the mean, as they were measured.
        delay_seconds: for which the first request of a batch waits for others.
    """

    seconds: tuple[float, ...]
    num_instances: int
    overhead_seconds: float
    factors: tuple[float, ...] = (1.0,)
    delay_seconds: float = 0.0

    @property
    def capacity(self) -> float:
        """Requests per second that it can't exceed: full batches without a pause, of the best size."""
        best = max(number / seconds for number, seconds in enumerate(self.seconds, 1))
        return self.num_instances * best


@dataclass(frozen=True)
class Outcome:
    """What became of requests.

    Attributes:
        latencies: of each request, in seconds.
        waiting: how many others waited when each came.
        busy_share: share of the time in which instances had a batch.
        mean_batch: requests of a batch.
    """

    latencies: Array
    waiting: Array
    busy_share: float
    mean_batch: float

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the latency, in milliseconds."""
        return float(np.percentile(self.latencies, percent)) * 1e3


def simulate(service: Service, rate: float, *, num_requests: int = 20_000, seed: int = 0) -> Outcome:
    """Send requests at random moments (a Poisson process) to a server.

    An instance that is free takes all that waits, up to the largest batch, in the order of arrival. That is
    what Triton's dynamic batcher does with requests of one row and without preferred sizes.

    Args:
        service: the server.
        rate: requests per second.
        num_requests: how many are sent; the first tenth doesn't count.
        seed: of the moments.
    """
    random = np.random.default_rng(seed)
    arrivals: list[float] = np.cumsum(random.exponential(1 / rate, num_requests)).tolist()
    factors = random.choice(np.asarray(service.factors), num_requests).tolist()
    starts, ends, batches, busy = _serve(service, arrivals, factors)
    counted = num_requests // 10
    came = np.asarray(arrivals)
    started = np.asarray(starts)
    # In the order of arrival: whoever came before and hasn't been started yet is still waiting.
    waiting = np.arange(num_requests) - np.searchsorted(started, came, side="right")
    latencies = np.asarray(ends) - came + service.overhead_seconds
    span = max(max(ends) - arrivals[0], 1e-12)
    return Outcome(
        latencies[counted:],
        np.maximum(waiting, 0)[counted:],
        busy / (span * service.num_instances),
        num_requests / batches,
    )


def _serve(
    service: Service, arrivals: Sequence[float], factors: Sequence[float]
) -> tuple[list[float], list[float], int, float]:
    """Return when each request's batch starts and ends, the number of batches, and the time they took."""
    largest = len(service.seconds)
    free = [0.0] * service.num_instances
    starts: list[float] = []
    ends: list[float] = []
    busy, batches, first = 0.0, 0, 0
    while first < len(arrivals):
        start = max(heapq.heappop(free), arrivals[first])
        if service.delay_seconds:
            full = arrivals[first + largest - 1] if first + largest <= len(arrivals) else arrivals[-1]
            start = max(start, min(arrivals[first] + service.delay_seconds, full))
        number = min(bisect_right(arrivals, start, lo=first), first + largest) - first
        seconds = service.seconds[number - 1] * factors[batches]
        starts += [start] * number
        ends += [start + seconds] * number
        heapq.heappush(free, start + seconds)
        busy += seconds
        batches += 1
        first += number
    return starts, ends, batches, busy
