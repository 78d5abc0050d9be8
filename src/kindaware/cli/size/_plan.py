"""How many replicas a load needs, and what they are to be set to."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kindaware._errors import ConfigError
from kindaware.cli.size._queue import Outcome, Service, simulate

_STEPS = 12
"""Halvings of the interval in which the highest rate is looked for."""

_HIGHEST = 0.98
"""Of the capacity; nearer to it a queue has no steady state worth a figure."""


@dataclass(frozen=True)
class Goal:
    """What is wanted.

    Attributes:
        rate: requests per second, of all clients.
        p99_ms: the latency that 99 % of them may have at most.
        cost_per_hour: of a replica; 0 if costs don't matter.
    """

    rate: float
    p99_ms: float
    cost_per_hour: float


@dataclass(frozen=True)
class Plan:
    """Replicas for a goal.

    Attributes:
        service: of a replica.
        highest_rate: requests per second at which a replica just keeps the limit.
        replicas: how many.
        outcome: of a replica with its part of the load.
        queue_size: requests in the queue from which on a further one can't keep the limit.
        pending: mean number of waiting requests at the highest rate: above it there should be more replicas.
        cost_per_million: requests; 0 if costs don't matter.
    """

    service: Service
    highest_rate: float
    replicas: int
    outcome: Outcome
    queue_size: int
    pending: int
    cost_per_million: float


def make_plan(service: Service, goal: Goal) -> Plan:
    """Find the replicas for a goal.

    Raises:
        ConfigError: not even a single request keeps the limit.
    """
    limit = goal.p99_ms
    highest = find_highest_rate(service, limit)
    if highest is None:
        alone = simulate(service, service.capacity / 1000).percentile_ms(99)
        raise ConfigError.of(
            "--p99-ms",
            expected=f"more than {alone:.3g}, which a request takes that meets no other",
            got=f"{limit:g}",
            remedy="raise it, or make the model faster: see kindaware bench --tune",
        )
    replicas = math.ceil(goal.rate / highest)
    room = limit / 1e3 - service.seconds[-1] - service.overhead_seconds
    return Plan(
        service,
        highest,
        replicas,
        simulate(service, goal.rate / replicas),
        max(1, int(room * service.capacity)),
        max(1, round(float(simulate(service, highest).waiting.mean()))),
        goal.cost_per_hour * replicas / (goal.rate * 3600) * 1e6,
    )


def find_highest_rate(service: Service, p99_ms: float) -> float | None:
    """Return the requests per second at which a replica just keeps a limit; None if it never does."""
    low, high = 0.0, service.capacity * _HIGHEST
    if simulate(service, high).percentile_ms(99) <= p99_ms:
        return high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if simulate(service, middle).percentile_ms(99) <= p99_ms:
            low = middle
        else:
            high = middle
    return low or None
