"""The check for races: work on the same memory that no event and no wait has put in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kindaware.testing.accelerator.machine.streams import Clock, Stream
from kindaware.testing.accelerator.machine.timeline import Timeline

_MOST_USES = 32
_REMEDY = "order the two: stream.wait_event(event), stream.wait_stream(other), or tensor.record_stream"
_REMEDY_WITH_SERVER = (
    "wait for the stream before execute returns; pass from_dlpack the tensor itself, not a capsule"
)


@dataclass(frozen=True, slots=True)
class _Use:
    """A read or write of the bytes from `start` up to but not including `stop`."""

    stream: Stream
    ticket: int
    start: int
    stop: int

    def joined(self, other: _Use) -> _Use:
        start, stop = min(self.start, other.start), max(self.stop, other.stop)
        return _Use(self.stream, max(self.ticket, other.ticket), start, stop)


@dataclass(eq=False)
class Block:
    """Memory that streams read and write.

    Attributes:
        writes: the last writes, by bytes.
        reads: the reads since then.
    """

    writes: list[_Use] = field(default_factory=list, repr=False)
    reads: list[_Use] = field(default_factory=list, repr=False)


class Span(NamedTuple):
    """Bytes of a block, from `start` up to but not including `stop`.

    A strided tensor spans all bytes from its first to its last, gaps included.
    """

    block: Block
    start: int
    stop: int


class RaceCheck:
    """Finds work on the same memory that no event and no wait has put in order.

    Args:
        timeline: knows the order of work.
        report: called with each violation, as (what would happen, remedy).
    """

    def __init__(self, timeline: Timeline, report: Callable[[str, str], None]) -> None:
        self._timeline = timeline
        self._report = report

    def before(self, stream: Stream, name: str, reads: Sequence[Span], writes: Sequence[Span]) -> None:
        """Check a piece of work that is about to be queued on a stream."""
        clock = self._timeline.clock_of(stream)
        for span in (*reads, *writes):
            self._check(stream, clock, name, span, span.block.writes, "writes")
        for span in writes:
            self._check(stream, clock, name, span, span.block.reads, "reads")

    def after(self, stream: Stream, ticket: int, reads: Sequence[Span], writes: Sequence[Span]) -> None:
        """Remember a piece of work that was queued on a stream."""
        for block, start, stop in reads:
            _remember(block.reads, _Use(stream, ticket, start, stop))
        for block, start, stop in writes:
            # Work that comes after this write also comes after what the write itself came after.
            block.reads[:] = [one for one in block.reads if one.start < start or one.stop > stop]
            block.writes[:] = [one for one in block.writes if one.start < start or one.stop > stop]
            _remember(block.writes, _Use(stream, ticket, start, stop))

    def _check(
        self, stream: Stream, clock: Clock, name: str, span: Span, uses: list[_Use], does: str
    ) -> None:
        for use in list(uses):
            is_apart = use.stop <= span.start or span.stop <= use.start
            if is_apart or use.stream is stream or clock.get(use.stream, 0) >= use.ticket:
                continue
            uses.remove(use)  # reported once
            is_servers = stream.is_servers or use.stream.is_servers
            self._report(
                f"run {name} on {stream!r} while {use.stream!r} still {does} the same memory",
                _REMEDY_WITH_SERVER if is_servers else _REMEDY,
            )


def _remember(uses: list[_Use], new: _Use) -> None:
    """Add a use, in place of earlier ones of the same bytes by the same stream."""
    uses[:] = [
        use for use in uses if use.stream is not new.stream or use.start < new.start or use.stop > new.stop
    ]
    uses.append(new)
    if len(uses) > _MOST_USES:  # keep the check fast: one use per stream, which may report too much
        joined: dict[Stream, _Use] = {}
        for use in uses:
            joined[use.stream] = use.joined(joined[use.stream]) if use.stream in joined else use
        uses[:] = joined.values()
