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
    """A metric family, in which a counter is exported.

    Attributes:
        name: its name, which ends in `_total` if it is a COUNTER.
        description: its description.
        label: the label that tells the entries of a counter by key apart; "" for a single number.
        kind: COUNTER for what only grows, GAUGE for what there is now.
    """

    name: str
    description: str
    label: str = ""
    kind: str = "COUNTER"


def _family(name: str, description: str, label: str = "", kind: str = "COUNTER") -> dict[str, Family]:
    """Return the metadata of a field that is exported."""
    return {"family": Family(name, description, label, kind)}


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
        open_streams: streams of `step` that have begun and not ended.
        waiting_streams: requests to `step` that wait here for their `begin`.
        steps: calls of `step` that returned.
        stepped_streams: streams of those calls.
        items: items of `step` that were sent.
        first_items: those that were the first of their stream.
        seconds_to_items: seconds until an item was sent: `first` since its request arrived, `next` since the
            item before it.
        preemptions: times that streams were set aside, or not begun, because memory ran out.
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
    open_streams: int = field(
        default=0, metadata=_family("kindaware_open_streams", "Streams of step that are open", kind="GAUGE")
    )
    waiting_streams: int = field(
        default=0,
        metadata=_family(
            "kindaware_waiting_streams", "Requests to step that wait in the instance to begin", kind="GAUGE"
        ),
    )
    steps: int = field(default=0, metadata=_family("kindaware_steps_total", "Calls of step"))
    stepped_streams: int = field(
        default=0, metadata=_family("kindaware_stepped_streams_total", "Streams in the calls of step")
    )
    items: int = field(default=0, metadata=_family("kindaware_items_total", "Items of step that were sent"))
    first_items: int = field(
        default=0,
        metadata=_family("kindaware_first_items_total", "Items of step that were the first of their stream"),
    )
    seconds_to_items: dict[str, float] = field(
        default_factory=lambda: {"first": 0.0, "next": 0.0},
        metadata=_family(
            "kindaware_item_seconds_total",
            "Seconds until an item of step was sent, since its request arrived (first) or since the item "
            "before it (next)",
            label="item",
        ),
    )
    preemptions: int = field(
        default=0,
        metadata=_family(
            "kindaware_preemptions_total", "Times that streams of step had to wait because memory ran out"
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

    def add_step(self, num_streams: int) -> None:
        """Count a call of `step` that returned."""
        self.steps += 1
        self.stepped_streams += num_streams

    def add_item(self, seconds: float, *, is_first: bool) -> None:
        """Count an item of `step` that was sent.

        Args:
            seconds: since the item before it, or since the request arrived.
            is_first: whether it is the first of its stream.
        """
        self.items += 1
        self.first_items += is_first
        self.seconds_to_items["first" if is_first else "next"] += seconds

    def add_batch(self, num_requests: int, num_rows: int, seconds: float = 0.0) -> None:
        """Count a batch that succeeded.

        Args:
            num_requests: its requests; 0 if it has only slices of one that an earlier batch has begun.
            num_rows: its rows.
            seconds: from its inputs to its outputs; 0 if unknown.
        """
        self.batches += 1
        self.requests += num_requests
        self.rows += num_rows
        self.seconds_per_request = seconds / max(num_requests, 1)


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
