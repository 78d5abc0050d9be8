"""Counters of an instance, kept as plain numbers: counting calls neither Triton nor torch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

TIMED_STAGES = ("read", "copy_in", "forward", "copy_out", "respond")
"""The timed stages, in the order in which a batch goes through them."""


@dataclass(slots=True)
class Counters:
    """Totals since the instance became ready.

    Times are measured on the host: on a GPU, `forward` is the time to queue it, and `copy_out` includes the
    wait.

    Attributes:
        batches: forwards that succeeded.
        requests: requests of those batches.
        rows: rows of those batches; one per request if the model does not batch.
        retries: further forwards after one that raised.
        out_of_memory: batches that were halved because memory ran out.
        seconds: seconds by stage.
        seconds_per_request: seconds per request of the last batch, from inputs to outputs; 0 before the
            first.
        bytes_copied: bytes by direction, `in` to the device and `out` to the host.
        errors: requests that got an error, by the name of Triton's error code.
    """

    batches: int = 0
    requests: int = 0
    rows: int = 0
    retries: int = 0
    out_of_memory: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TIMED_STAGES, 0.0))
    bytes_copied: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    seconds_per_request: float = 0.0

    def reset(self) -> None:
        """Set all counters to zero, in place: others hold references to this object."""
        zero = Counters()
        for counter in fields(self):
            setattr(self, counter.name, getattr(zero, counter.name))

    def add_errors(self, codes: Iterable[str]) -> None:
        """Count requests that got an error.

        Args:
            codes: name of Triton's error code, for each request.
        """
        self.errors.update(codes)

    def add_bytes(self, num_in: int, num_out: int) -> None:
        """Count bytes that were copied to the device (in) and to the host (out)."""
        self.bytes_copied["in"] += num_in
        self.bytes_copied["out"] += num_out

    def add_batch(self, num_requests: int, num_rows: int, seconds: float = 0.0) -> None:
        """Count a batch that succeeded.

        Args:
            num_requests: its requests; at least one.
            num_rows: its rows.
            seconds: from its inputs to its outputs; 0 if unknown.
        """
        self.batches += 1
        self.requests += num_requests
        self.rows += num_rows
        self.seconds_per_request = seconds / num_requests


class Stopwatch:
    """Measures consecutive stages, and adds their seconds to the counters.

    Args:
        counters: the counters to add to.
    """

    __slots__ = ("_began", "_counters", "_started")

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._began = self._started = time.perf_counter()

    def restart(self) -> None:
        """Start the next stage now: the seconds since the last lap count for no stage."""
        self._started = time.perf_counter()

    def lap(self, stage: str) -> None:
        """End a stage, and start the next."""
        now = time.perf_counter()
        self._counters.seconds[stage] += now - self._started
        self._started = now

    def total(self) -> float:
        """Return the seconds between the start and the last lap."""
        return self._started - self._began
