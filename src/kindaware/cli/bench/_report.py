"""What `kindaware bench` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from kindaware.cli._table import align
from kindaware.cli.bench._level import Latencies, Level
from kindaware.cli.bench._server_times import ServerTimes

_BUSY_SHARE = 0.8
"""A load generator that needs more of a core than that may be what limits the throughput."""

_NONE = "-"
_UNITS = "  latencies in ms; queue and compute: means, by the server's own clock"
_STREAM_UNITS = "  latencies in ms: to the first item, between items (gap), and to the last item (p50 to p99)"


def write_levels(levels: Sequence[Level], *, is_stream: bool) -> str:
    """Return a table with a row for each load, and lines about errors and the load generator."""
    header, *rows = zip(*_columns(levels, is_stream=is_stream), strict=True)
    return "\n".join(
        [*align([header, *rows], left=0), _STREAM_UNITS if is_stream else _UNITS, *_notes(levels)]
    )


def write_errors(levels: Sequence[Level]) -> Iterator[str]:
    """Yield a line for each error, the most frequent first."""
    texts: Counter[str] = Counter()
    for level in levels:
        texts.update(level.errors)
    for text, number in texts.most_common():
        yield f"error, {number} times: {text}"


def _columns(levels: Sequence[Level], *, is_stream: bool) -> Iterator[tuple[str, ...]]:
    """Yield each column with its title."""
    at_rate = any(level.load.rate for level in levels)
    yield (
        "rate/s" if at_rate else "in flight",
        *(f"{level.load.rate:g}" if at_rate else str(level.load.concurrency) for level in levels),
    )
    yield "requests", *(str(level.num_requests) for level in levels)
    yield "requests/s", *(f"{level.requests_per_second:,.1f}" for level in levels)
    if any(level.rows_per_second > level.requests_per_second for level in levels):
        yield "rows/s", *(f"{level.rows_per_second:,.1f}" for level in levels)
    if is_stream:
        yield "items/s", *(f"{level.items_per_second:,.1f}" for level in levels)
        for name, pick in (("first", "first_item_ms"), ("gap", "between_items_ms")):
            for percentile in ("p50", "p95"):
                yield (
                    f"{name} {percentile}",
                    *(_milliseconds(getattr(level, pick), percentile) for level in levels),
                )
    for percentile in ("p50", "p95", "p99") if is_stream else ("p50", "p90", "p95", "p99"):
        yield percentile, *(_milliseconds(level.latency_ms, percentile) for level in levels)
    if not is_stream:
        yield from _server_columns([level.server for level in levels])
    yield "errors", *(str(level.num_errors) for level in levels)


def _server_columns(found: Sequence[ServerTimes | None]) -> Iterator[tuple[str, ...]]:
    """Yield the server's own times; of a stream they would say little."""
    yield "queue", *(_NONE if one is None else f"{one.queue_ms:.2f}" for one in found)
    yield "compute", *(_NONE if one is None else f"{one.compute_ms:.2f}" for one in found)
    yield "rows/batch", *(_NONE if one is None else f"{one.rows_per_batch:.1f}" for one in found)


def _milliseconds(latencies: Latencies | None, percentile: str) -> str:
    return _NONE if latencies is None else f"{getattr(latencies, percentile):.2f}"


def _notes(levels: Sequence[Level]) -> Iterator[str]:
    """Yield lines about what the table can't show."""
    yield from write_errors(levels)
    if not all(level.is_complete for level in levels):
        yield "interrupted: the last row is of the time until then"
    busy = [level for level in levels if level.client_share > _BUSY_SHARE]
    if busy:
        loads = ", ".join(str(level.load) for level in busy)
        share = max(level.client_share for level in busy)
        yield (
            f"with {loads} this load generator took {share:.0%} of a core, and may "
            "be the limit; perf_analyzer of Triton's SDK container is faster"
        )
