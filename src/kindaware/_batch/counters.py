"""What an instance has done so far, added up in plain numbers: no call of Triton's, no tensor."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

TIMED_STAGES = ("read", "copy_in", "forward", "copy_out", "respond")
"""The stages whose seconds are added up, in the order in which a batch goes through them."""


@dataclass(slots=True)
class Counters:
    """Sums since the instance was made.

    Times are the host's: on a GPU, `forward` is the time to queue it, and `copy_out` has the wait.

    Attributes:
        batches: forwards that gave an answer.
        requests: requests of those batches.
        rows: rows of those batches; a model that does not batch has one per request.
        retries: further forwards after one that raised.
        out_of_memory: batches that were halved because memory ran out.
        seconds: by stage.
        seconds_per_request: of the last batch, from its inputs to its outputs; 0 before the first.
        bytes_copied: by direction, `in` to the device and `out` to the host.
        errors: requests that got an error, by the name of Triton's code.
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
        """Start from zero again."""
        zero = Counters()
        for one in fields(self):
            setattr(self, one.name, getattr(zero, one.name))

    def add_errors(self, codes: Iterable[str]) -> None:
        """Count requests that got an error, by code."""
        self.errors.update(codes)

    def add_bytes(self, num_in: int, num_out: int) -> None:
        """Count bytes that were copied to the device and to the host."""
        self.bytes_copied["in"] += num_in
        self.bytes_copied["out"] += num_out

    def add_batch(self, num_requests: int, num_rows: int, seconds: float = 0.0) -> None:
        """Count a batch that was answered, at least one request, in so many seconds where that is known."""
        self.batches += 1
        self.requests += num_requests
        self.rows += num_rows
        self.seconds_per_request = seconds / num_requests


class Stopwatch:
    """Adds the seconds between its laps to the stages that they end.

    Args:
        counters: what they are added to.
    """

    __slots__ = ("_began", "_counts", "_started")

    def __init__(self, counters: Counters) -> None:
        self._counts = counters
        self._began = self._started = time.perf_counter()

    def restart(self) -> None:
        """Leave out the seconds since the last lap."""
        self._started = time.perf_counter()

    def lap(self, stage: str) -> None:
        """End a stage; the next one begins."""
        now = time.perf_counter()
        self._counts.seconds[stage] += now - self._started
        self._started = now

    def total(self) -> float:
        """Return the seconds from the start to the last lap."""
        return self._started - self._began
