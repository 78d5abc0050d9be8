"""How many of its cores an instance on the CPU needs: with fewer and fewer threads, forwards are timed.

The instance shares its cores with the server, and often with the clients. More threads make a forward faster,
and use more of the cores: two threads on two cores leave none for the server, and each waits for the other
wherever the server takes one. So what counts is not the time of a forward, but how many requests per second
it leaves room for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kindaware._tuning.rounds import Clock, shortest_times

SECONDS = 2.0
"""How long the measurement may take."""

SERVER_SECONDS = 160e-6
"""Time of a core that a request costs besides `execute`: in the server, in the client, and between them.
Measured with the model `floor` of the benchmarks."""

ENOUGH = 0.9
"""Fewer threads are chosen if they reach this part of the best rate."""

LONG_SECONDS = 0.05
"""Batches that take longer are left out; a single request is never."""

_HOPELESS = 0.7
_NUM_ROUNDS = 7
_NUM_TRIES = 3

Forwards = Mapping[int, Callable[[], object]]
"""Runs a batch, by its number of requests, ascending."""


@dataclass(frozen=True, slots=True)
class ThreadTimes:
    """Times of forwards by number of threads.

    Attributes:
        num_cores: the instance's cores.
        seconds: of a batch, by number of threads, then by number of requests.
    """

    num_cores: int
    seconds: Mapping[int, Mapping[int, float]]

    def rate(self, num_threads: int) -> float:
        """Return the requests per second to expect under load: the geometric mean over the batches.

        No more than forwards allow, one after the other; and no more than the cores allow, which have the
        rest of the work on each request to do as well. Threads that wait for each other spin.
        """
        rates = []
        for num_requests, seconds in self.seconds[num_threads].items():
            forward = seconds / num_requests
            rates.append(1 / max(forward, (num_threads * forward + SERVER_SECONDS) / self.num_cores))
        return math.prod(rates) ** (1 / len(rates))

    def reaching(self, part: float) -> list[int]:
        """Return the numbers of threads that reach this part of the best rate, ascending."""
        best = max(map(self.rate, self.seconds))
        return sorted(count for count in self.seconds if self.rate(count) >= part * best)

    @property
    def fewest(self) -> int:
        """The fewest threads that nearly reach the best rate."""
        return self.reaching(ENOUGH)[0]

    def __str__(self) -> str:
        """Return what was measured, for the log: milliseconds per batch, and the rate to expect."""
        sizes = next(iter(self.seconds.values()))
        found = []
        for count, seconds in sorted(self.seconds.items()):
            times = " and ".join(f"{1000 * seconds[size]:.3g}" for size in sizes)
            found.append(f"{count}: {times} ms, {self.rate(count):,.0f} requests/s")
        return f"batches of {' and '.join(map(str, sizes))} with {'; '.join(found)}"


def measure_threads(
    counts: Sequence[int],
    forwards: Forwards,
    set_threads: Callable[[int], object],
    *,
    clock: Clock = time.perf_counter,
) -> ThreadTimes:
    """Time forwards with fewer and fewer threads, then in turns with the numbers that are not hopeless.

    Args:
        counts: numbers of threads, descending; the first is the number of the instance's cores.
        forwards: what to time.
        set_threads: sets torch's number of threads; the caller sets it again afterwards.
        clock: returns seconds.

    Returns:
        The times; of the first number alone if forwards take too long to try others.
    """
    turns = _Turns(forwards, set_threads, clock)
    turns.leave_out_long(counts[0])
    contenders = []
    for count in counts:
        if not turns.have_time_for(count):
            break
        # Once more, and again, for a number that looks hopeless: another program may have disturbed it.
        for _ in range(_NUM_TRIES):
            turns.take([count], num_rounds=1)
            if is_contender := count in ThreadTimes(counts[0], turns.seconds()).reaching(_HOPELESS):
                break
        if not is_contender:
            break
        contenders.append(count)
    if len(contenders) > 1:
        turns.take(contenders, num_rounds=_NUM_ROUNDS)
    return ThreadTimes(counts[0], turns.seconds())


def fewer_and_fewer(num_cores: int) -> list[int]:
    """Return the numbers of threads to try: all of the cores, half of them, a quarter, down to one."""
    counts = [num_cores]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    return counts


class _Turns:
    """Forwards that take turns, and the shortest time of each so far."""

    def __init__(self, forwards: Forwards, set_threads: Callable[[int], object], clock: Clock) -> None:
        self._forwards = dict(forwards)
        self._set_threads = set_threads
        self._clock = clock
        self._deadline = math.inf
        self._shortest: dict[tuple[int, int], float] = {}

    def leave_out_long(self, count: int) -> None:
        """Leave out the batches that take long with so many threads, by the smallest; time begins then."""
        smallest = min(self._forwards)
        self._take([(count, smallest)], 1)
        # The first forward of all may take long: it makes what all others use.
        self._deadline = self._clock() + SECONDS
        per_request = self._shortest[count, smallest] / smallest
        for size in set(self._forwards) - {smallest}:
            if size * per_request > LONG_SECONDS:
                del self._forwards[size]

    def have_time_for(self, count: int) -> bool:
        """Whether a turn with so many threads would end in time: half of them take twice as long at most."""
        seconds = self.seconds()
        if not seconds:
            return True
        last = min(seconds)
        return self._clock() + 2 * last / count * sum(seconds[last].values()) <= self._deadline

    def take(self, counts: Sequence[int], num_rounds: int) -> None:
        """Time all batches with these numbers of threads."""
        self._take([(count, size) for count in counts for size in self._forwards], num_rounds)

    def _take(self, names: Sequence[tuple[int, int]], num_rounds: int) -> None:
        times = shortest_times(
            {(count, size): self._forwards[size] for count, size in names},
            num_rounds=num_rounds,
            deadline=self._deadline,
            enter=lambda name: self._set_threads(name[0]),
            clock=self._clock,
        )
        for name, seconds in times.items():
            self._shortest[name] = min(seconds, self._shortest.get(name, seconds))

    def seconds(self) -> dict[int, dict[int, float]]:
        """Return the times by number of threads, of those with which all batches had a turn."""
        found: dict[int, dict[int, float]] = {}
        for count, size in sorted(self._shortest):
            found.setdefault(count, {})[size] = self._shortest[count, size]
        return {count: times for count, times in found.items() if times.keys() == self._forwards.keys()}
