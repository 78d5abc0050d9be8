"""Time on a GPU: the host's clock around work that is waited for, and CUDA's events around the same work."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from kindaware.cli.bench._stats import interleave

Call = Callable[[int], object]
"""Does the work of one call; gets the number of the call."""


@dataclass(frozen=True)
class Timing:
    """Times of one call.

    Attributes:
        seconds: by the host's clock, from the first call to the end of the device's work.
        device_seconds: between two events on the current stream; less than `seconds` where the host is late.
    """

    seconds: float
    device_seconds: float


def time_in_turns(calls: Mapping[str, Call], seconds: float, num_rounds: int) -> list[dict[str, Timing]]:
    """Time all calls once per round, each as often as it takes for so many seconds."""
    timed = {name: partial(time_calls, call, choose_num_calls(call, seconds)) for name, call in calls.items()}
    gc.collect()
    gc.disable()
    try:
        return interleave(timed, num_rounds)
    finally:
        gc.enable()


def time_calls(call: Call, num_calls: int) -> Timing:
    """Make calls one behind the other and return the time of one; one more comes before, without counting.

    Sync:
        The device, before the first call and after the last.
    """
    threads = torch.get_num_threads()
    call(0)
    started, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    began = time.perf_counter()
    started.record()
    for number in range(num_calls):
        call(number)
    ended.record()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return Timing(seconds / num_calls, started.elapsed_time(ended) / 1e3 / num_calls)


def choose_num_calls(call: Call, seconds: float) -> int:
    """Find how many calls take so many seconds, after a warm-up; at least one, at most 1000."""
    for number in range(3):
        call(number)
    once = time_calls(call, 2).seconds
    return max(1, min(1000, round(seconds / once)))


def with_threads(name: str, call: Call, counts: Iterable[int]) -> dict[str, Call]:
    """Return a call with these numbers of torch's threads, by a name that says so."""

    def run(num_threads: int, number: int) -> object:
        if torch.get_num_threads() != num_threads:
            torch.set_num_threads(num_threads)
        return call(number)

    return {f"{name}, {count} thread{'s' * (count > 1)}": partial(run, count) for count in counts}
