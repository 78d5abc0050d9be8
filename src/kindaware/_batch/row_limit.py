"""The row limit: how many rows a forward gets at most, and its measurement where the setting is `auto`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kindaware._config.model_spec import ModelSpec
from kindaware._config.settings import Settings

BUDGET_SECONDS = 2.0
"""The measurement begins no size that would end after so many seconds, judged by the last one."""

_GAIN = 1.05
"""By which factor a size must answer more rows per second than a smaller one to be preferred to it."""

_PATIENCE = 2
"""The measurement ends after so many sizes in succession that were not preferred."""

_RUNS = 3
"""How often each size is timed; the fastest run counts."""

Prepare = Callable[[int], Callable[[], bool]]
"""Makes a batch of so many rows, and returns what runs it to its end, which is False if memory ran out."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the measurement has found.

    Attributes:
        max_rows: the smallest size that answers rows about as fast as any; None if larger ones may be faster.
        rows_per_second: of that size, or of the fastest that was measured.
    """

    max_rows: int | None
    rows_per_second: float

    def describe(self) -> str:
        """Return a phrase for the log."""
        rows = "no limit" if self.max_rows is None else str(self.max_rows)
        return f"max_rows_per_forward {rows} (auto: {self.rows_per_second:,.0f} rows/s)"


def largest_batch(spec: ModelSpec, settings: Settings) -> tuple[int, str]:
    """Return how many rows a forward may get, as far as it is known before the warm-up, and what says so."""
    limit = settings.max_rows_per_forward
    if isinstance(limit, int) and limit < spec.max_batch_size:
        return limit, "max_rows_per_forward"
    return spec.max_batch_size, "max_batch_size"


def measure_row_limit(
    prepare: Prepare, largest: int, clock: Callable[[], float] = time.perf_counter
) -> Measured:
    """Measure rows per second at doubling sizes until they grow no more, memory runs out, or the time is up.

    Each size is run once untimed, since libraries choose their kernels in the first run of a size.

    Args:
        prepare: makes a batch.
        largest: the largest size, in rows.
        clock: returns the time in seconds.

    Sync:
        As what `prepare` returns.
    """
    ends = clock() + BUDGET_SECONDS
    seconds, best_rate = 0.0, 0.0
    best, num_worse = 0, 0
    for size in _doubling(largest):
        # A size twice as large takes up to twice as long.
        if clock() + 2 * (1 + _RUNS) * seconds > ends:
            return Measured(None, best_rate)
        times = _times(prepare(size), clock)
        if times is None:
            return Measured(best or None, best_rate)
        seconds = min(times)
        if size > _GAIN * best_rate * seconds:
            best, best_rate, num_worse = size, size / max(seconds, 1e-9), 0
        else:
            num_worse += 1
        if num_worse == _PATIENCE:
            break
    return Measured(best if best < largest else None, best_rate)


def _times(run: Callable[[], bool], clock: Callable[[], float]) -> list[float] | None:
    """Return the seconds of each timed run of a batch; None if memory ran out."""
    if not run():
        return None
    times = []
    for _ in range(_RUNS):
        started = clock()
        if not run():
            return None
        times.append(clock() - started)
    return times


def _doubling(largest: int) -> Iterator[int]:
    """Yield 1, 2, 4 and so on, and at last the largest size."""
    size = 1
    while size < largest:
        yield size
        size *= 2
    yield largest
