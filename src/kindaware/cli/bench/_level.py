"""The result of one measurement: throughput, latency, errors, and the server's own times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kindaware.cli.bench._load import Load, Tally
from kindaware.cli.bench._server_times import ServerTimes

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Latencies:
    """Percentiles in milliseconds."""

    p50: float
    p90: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latencies | None:
        """Summarise durations; None of none."""
        return cls(*(np.percentile(seconds, PERCENTILES) * 1e3).tolist()) if seconds else None


@dataclass(frozen=True)
class Level:
    """What one measurement has found.

    Attributes:
        load: how requests were sent.
        requests_per_second: answered ones, over the time from the first request to the last answer.
        rows_per_second: of them.
        num_requests: answered ones.
        latency_ms: from request to answer, to the last item for a stream; None if nothing was answered.
        errors: how often each text came.
        client_share: processor time of the load generator over the duration; near 1 it is the limit itself.
        items_per_second: of all streams.
        first_item_ms: from a request to the first item of its stream.
        between_items_ms: from one item to the next.
        server: the server's own times, where it has counted any.
        is_complete: whether the measurement came to its end.
    """

    load: Load
    requests_per_second: float
    rows_per_second: float
    num_requests: int
    latency_ms: Latencies | None
    errors: dict[str, int]
    client_share: float
    items_per_second: float
    first_item_ms: Latencies | None
    between_items_ms: Latencies | None
    server: ServerTimes | None
    is_complete: bool = True

    @classmethod
    def of(
        cls, load: Load, tally: Tally, rows: int, server: ServerTimes | None, *, is_complete: bool = True
    ) -> Level:
        """Summarise what clients have seen, of requests with so many rows."""
        seconds = max(tally.seconds, 1e-9)
        return cls(
            load=load,
            requests_per_second=len(tally.latencies) / seconds,
            rows_per_second=len(tally.latencies) * rows / seconds,
            num_requests=len(tally.latencies),
            latency_ms=Latencies.of(tally.latencies),
            errors=dict(tally.errors.most_common()),
            client_share=tally.processor_seconds / seconds,
            items_per_second=tally.num_items / seconds,
            first_item_ms=Latencies.of(tally.first_items),
            between_items_ms=Latencies.of(tally.gaps),
            server=server,
            is_complete=is_complete,
        )

    @property
    def num_errors(self) -> int:
        """How many requests had no answer."""
        return sum(self.errors.values())

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        found = asdict(self)
        del found["load"]
        return {**self.load_as_dict(), **found}

    def load_as_dict(self) -> dict[str, float]:
        """Return the load alone."""
        return {"rate": self.load.rate} if self.load.rate else {"concurrency": self.load.concurrency}
