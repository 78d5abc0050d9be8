"""How many replicas there are to be, from what waits in the servers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

PENDING, BUSY = "pending", "busy"
"""What a replica reports: requests that wait in its server, and the busy part of its busiest model's time."""
_BUSY_TARGET = 0.7
"""How busy a replica may be after one less: with less to spare, requests soon wait."""


class PendingRequests:
    """Autoscaling policy of Ray Serve: a number of replicas at which few requests wait.

    There are more when more than `target_pending` requests wait in each server on average. There are fewer
    only when the others would be at most 70 % busy then: a server that keeps up has no queue, however little
    it has to spare.

    Args:
        target_pending: requests that may wait in each server.
    """

    def __init__(self, target_pending: float = 8.0) -> None:
        self._target_pending = float(target_pending)

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """Return the number of replicas, within the deployment's limits, and no state."""
        metrics = context.aggregated_metrics or {}
        pending = sum(metrics.get(PENDING, {}).values())
        busy = sum(metrics.get(BUSY, {}).values())
        for_queue = math.ceil(pending / self._target_pending)
        for_work = math.ceil(busy / _BUSY_TARGET - 1e-9)
        if len(metrics.get(BUSY, {})) < context.current_num_replicas:  # one is starting, or can't be asked
            for_work = context.target_num_replicas
        wanted = max(for_queue, min(for_work, context.target_num_replicas))
        lowest, highest = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        return max(lowest, min(wanted, highest)), {}
