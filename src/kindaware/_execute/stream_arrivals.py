"""`StreamArrivals`: the requests of a decoupled model as they arrive, with what sends their responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kindaware._batch.counters import Counters, Stopwatch
from kindaware._batch.plan import Plan
from kindaware._batch.request import Request
from kindaware._batch.results import Failure, refusal_of
from kindaware._device.health import Health
from kindaware._errors import RequestError
from kindaware._execute.stream_failures import StreamFailures
from kindaware._triton.adapter import TritonAdapter
from kindaware._triton.response_sender import ResponseSender

Arrival = tuple[Request | Failure, ResponseSender]
"""A request without a reference to Triton's, or why it can't be answered; and the sender of its responses."""


class StreamArrivals:
    """Reads the requests of a decoupled model.

    Args:
        plan: plan of the instance.
        health: health of its device.
        counters: counters to which the time for reading is added.
        outlives_execute: whether streams go on when `execute` has returned.
    """

    def __init__(self, plan: Plan, health: Health, counters: Counters, *, outlives_execute: bool) -> None:
        self._asks_for_cancelled = plan.settings.cancellation != "off"
        self._failures = StreamFailures(plan, health)
        self._health = health
        self._counters = counters
        self._outlives_execute = outlives_execute

    def read(self, adapter: TritonAdapter, requests: Sequence[Any]) -> list[Arrival]:
        """Read the requests of one call of `execute`.

        Args:
            adapter: reads requests and builds responses.
            requests: the requests that Triton passes.

        Raises:
            Exception: raised by pb_utils.
        """
        stopwatch = Stopwatch(self._counters)
        read: Sequence[Request | Failure]
        try:
            read = adapter.requests.read(requests)
        except Exception as error:
            # A device fault shows when an input that lies on the device is read.
            if not self._health.note_fault(error):
                raise
            read = [self._failures.unavailable()] * len(requests)
        stopwatch.lap("read")
        asks = self._asks_for_cancelled
        return [
            (self._detached(one), ResponseSender(adapter.responses, request, asks_for_cancelled=asks))
            for one, request in zip(read, requests, strict=True)
        ]

    def _detached(self, arrival: Request | Failure) -> Request | Failure:
        """Return a copy of the request without Triton's; a failure if its id can't be read."""
        try:
            if isinstance(arrival, Failure):
                return arrival
            return arrival.detached(outlives_execute=self._outlives_execute)
        except RequestError as error:
            return refusal_of(error)
