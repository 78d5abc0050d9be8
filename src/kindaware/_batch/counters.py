"""Counters of an instance, kept as plain numbers: counting calls neither Triton nor torch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

TIMED_STAGES = ("read", "copy_in", "forward", "copy_out", "respond")
"""The timed stages, in the order in which a batch goes through them."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Family:
    """A metric family, in which a counter is exported; all are of the kind COUNTER.

    Attributes:
        name: its name, which ends in `_total`.
        description: its description.
        label: the label that tells the entries of a counter by key apart; "" for a single number.
    """

    name: str
    description: str
    label: str = ""


def _family(name: str, description: str, label: str = "") -> dict[str, Family]:
    """Return the metadata of a field that is exported."""
    return {"family": Family(name, description, label)}


@dataclass(slots=True, eq=False, repr=False)
class Counters:
    """Totals since the instance became ready.

    Times are measured on the host: on a GPU, `forward` is the time to queue it, and `copy_out` includes the
    wait.

    Attributes:
        batches: forwards that succeeded.
        requests: requests of those batches.
        rows: rows of those batches; one per request if the model does not batch.
        seconds: seconds by stage.
        errors: requests that got an error, by the name of Triton's error code.
        retries: further forwards after one that raised.
        out_of_memory: batches that were halved because memory ran out.
        bytes_copied: bytes by direction, `in` to the device and `out` to the host.
        seconds_per_request: seconds per request of the last batch, from inputs to outputs; 0 before the
            first.
    """

    batches: int = field(default=0, metadata=_family("kindaware_batches_total", "Batches that were answered"))
    requests: int = field(
        default=0, metadata=_family("kindaware_requests_total", "Requests in the batches that were answered")
    )
    rows: int = field(
        default=0, metadata=_family("kindaware_rows_total", "Rows in the batches that were answered")
    )
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(TIMED_STAGES, 0.0),
        metadata=_family(
            "kindaware_stage_seconds_total",
            f"Seconds of the host by stage: {', '.join(TIMED_STAGES)}",
            label="stage",
        ),
    )
    errors: Counter[str] = field(
        default_factory=Counter,
        metadata=_family(
            "kindaware_errors_total", "Requests that got an error, by Triton's code", label="code"
        ),
    )
    retries: int = field(
        default=0, metadata=_family("kindaware_retries_total", "Further forwards after one that raised")
    )
    out_of_memory: int = field(
        default=0,
        metadata=_family("kindaware_out_of_memory_total", "Batches that were halved because memory ran out"),
    )
    bytes_copied: Counter[str] = field(
        default_factory=Counter,
        metadata=_family(
            "kindaware_copied_bytes_total",
            "Bytes copied, by direction: in to the device, out to the host",
            label="direction",
        ),
    )
    seconds_per_request: float = 0.0

    def exported(self) -> list[tuple[Family, str, float]]:
        """Return each number to export, with its family and the value of the family's label, "" for none."""
        values: list[tuple[Family, str, float]] = []
        for name, family in FAMILIES.items():
            counter = getattr(self, name)
            if family.label:
                values += [(family, key, number) for key, number in counter.items()]
            else:
                values.append((family, "", counter))
        return values

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


FAMILIES: dict[str, Family] = {
    counter.name: counter.metadata["family"] for counter in fields(Counters) if "family" in counter.metadata
}
"""Metric families by the name of their counter."""


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
