"""`default_queue_policy`: which requests the server's queue refuses, and when."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from kindaware.testing.harness.pending import ClientRequest
from kindaware.testing.harness.server.input_check import RefusedRequest


class QueuePolicy:
    """How long a request may wait for a busy model, and how many may.

    Requests wait in a harness only where the test sends them from threads of its own, or models call one
    another.

    Source: core `scheduler_utils.cc`, PriorityQueue::PolicyQueue; measured on tritonserver 2.51.0.

    Args:
        config: the model configuration.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        policy = config.get("dynamic_batching", {}).get("default_queue_policy", {})
        self._max_size = int(policy.get("max_queue_size", 0))
        # 64-bit integers are text in JSON.
        self._limit_us = int(policy.get("default_timeout_microseconds", 0))
        self._is_overridden = bool(policy.get("allow_timeout_override"))
        self._rejects = policy.get("timeout_action", "REJECT") == "REJECT"

    def check_size(self, sent: ClientRequest, num_waiting: int) -> None:
        """Refuse a request where as many wait as may.

        Raises:
            RefusedRequest: with the server's text.
        """
        if 0 < self._max_size <= num_waiting:
            raise RefusedRequest(f"{sent.label}Exceeds maximum queue size", "UNAVAILABLE")

    def deadline(self, sent: ClientRequest) -> float | None:
        """Return until when a request may wait, as `time.monotonic` counts; None for ever.

        A request's own timeout can shorten the policy's, where that is allowed, and not stand in for it.
        """
        limit = self._limit_us
        if self._is_overridden and 0 < sent.timeout < limit:
            limit = sent.timeout
        return time.monotonic() + limit / 1e6 if limit and self._rejects else None
