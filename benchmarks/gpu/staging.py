"""The part `staging`: the library's way to the device and back, against plain copies of the same bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.gpu.candidates import DEVICE, threaded
from benchmarks.gpu.clock import Deadline, choose_num_calls, time_calls
from benchmarks.stats import Spread, interleave, paired_ratio
from kindaware._device.runtime import CudaRuntime
from kindaware._device.staging import PinnedStaging

MIB = 2**20
NUM_REQUESTS = 32
NUM_SETS = 4
"""How many batches take turns, so that the last one is in no cache."""

HOST, PINNED_IN, PINNED_OUT = "host copy", "pinned copy to the device", "pinned copy to the host"
STAGED_IN, STAGED_OUT = "staging to the device", "staging to the host"
IN_RATIO = "staging in / the larger of host copy and pinned copy"
OUT_RATIO = "staging out / pinned copy"


def name_of(num_bytes: int, num_requests: int = NUM_REQUESTS) -> str:
    """A size as a person writes it."""
    size = f"{num_bytes // MIB} MiB" if num_bytes >= MIB else f"{num_bytes // 1024} KiB"
    return size if num_requests == NUM_REQUESTS else f"{size}, {num_requests} request"


def run_staging(
    sizes: Sequence[int], rounds: int, seconds: float, deadline: Deadline, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Measure each size; gives what was found so far after each.

    A batch has 32 requests of one row; the largest size is measured with one request of one row too. What is
    compared is waited for at the end of each call, as a batch's answers are.
    """
    num_threads = torch.get_num_threads()
    found: dict[str, Any] = {"sizes": {}, "not_measured": {}, "threads_of_an_instance": num_threads}
    runtime = CudaRuntime(torch.device(DEVICE))
    runtime.activate()
    for size, num_requests in [*((size, NUM_REQUESTS) for size in sizes), (max(sizes), 1)]:
        name = name_of(size, num_requests)
        if deadline.left < 15:
            found["not_measured"][name] = "there was no time left"
            continue
        say(f"staging, {name}: {rounds} rounds")
        with runtime.scope():
            copies = _Copies(runtime, size, num_requests)
            found["sizes"][name] = _measure(copies, num_threads, rounds, seconds)
        yield found


class _Copies:
    """The copies of one size; each waits until it is done.

    Args:
        runtime: the device, whose scope is entered.
        num_bytes: of a batch.
        num_requests: of one row each.
    """

    def __init__(self, runtime: CudaRuntime, num_bytes: int, num_requests: int) -> None:
        self.num_bytes = num_bytes
        self._runtime = runtime
        self._staging = PinnedStaging(runtime, 4 * max(num_bytes, MIB))
        width = num_bytes // num_requests // 4
        self._sets = [[torch.rand(1, width) for _ in range(num_requests)] for _ in range(NUM_SETS)]
        self._pinned = runtime.new_pinned(num_bytes).view(torch.float32).view(num_requests, width)
        self._pinned.fill_(1.0)
        self._device = torch.rand(num_requests, width).to(DEVICE)

    def on_host(self, number: int) -> None:
        """Join the requests in page-locked memory."""
        torch.cat(self._sets[number % NUM_SETS], out=self._pinned)

    def pinned_in(self, number: int) -> None:
        """Copy from page-locked memory to the device."""
        self._device.copy_(self._pinned, non_blocking=True)
        self._runtime.wait()

    def pinned_out(self, number: int) -> None:
        """Copy from the device to page-locked memory."""
        self._pinned.copy_(self._device, non_blocking=True)
        self._runtime.wait()

    def staged_in(self, number: int) -> torch.Tensor:
        """Take the requests to the device as an instance does."""
        self._staging.begin_call()
        batch = self._staging.put(self._sets[number % NUM_SETS])
        self._staging.settle()
        return batch

    def staged_out(self, number: int) -> torch.Tensor:
        """Take an output to the host as an instance does."""
        self._staging.begin_call()
        return self._staging.fetch({"Y": self._device})["Y"]

    def check(self) -> None:
        """Compare what arrives.

        Raises:
            AssertionError: it is not what was sent.
        """
        for number in range(NUM_SETS):
            assert torch.equal(self.staged_in(number).cpu(), torch.cat(self._sets[number]))
        assert torch.equal(self.staged_out(0), self._device.cpu())


def _measure(copies: _Copies, num_threads: int, rounds: int, seconds: float) -> dict[str, Any]:
    copies.check()
    calls = {
        threaded(HOST, number): _with_threads(copies.on_host, number)
        for number in _thread_counts(num_threads)
    }
    calls |= {PINNED_IN: copies.pinned_in, STAGED_IN: copies.staged_in}
    calls |= {PINNED_OUT: copies.pinned_out, STAGED_OUT: copies.staged_out}
    counts = {name: choose_num_calls(call, seconds) for name, call in calls.items()}
    timings = interleave(
        {
            name: lambda name=name: time_calls(calls[name], counts[name]).seconds  # type: ignore[misc]
            for name in calls
        },
        rounds,
    )
    taken = {name: [one[name] for one in timings] for name in calls}
    own_copy = taken[threaded(HOST, num_threads)]
    larger = [max(pair) for pair in zip(own_copy, taken[PINNED_IN], strict=True)]
    return {
        "gb_per_second": {
            name: asdict(Spread.of([copies.num_bytes / one / 1e9 for one in values]))
            for name, values in taken.items()
        },
        "ratios": {
            IN_RATIO: asdict(paired_ratio(taken[STAGED_IN], larger)),
            OUT_RATIO: asdict(paired_ratio(taken[STAGED_OUT], taken[PINNED_OUT])),
        },
        "num_calls": counts,
        "rounds": timings,
    }


def _thread_counts(num_threads: int) -> list[int]:
    """1, 2, 4 and so on up to the cores; with the number that an instance has."""
    cores = len(os.sched_getaffinity(0))
    return sorted({num_threads, *(one for one in (1, 2, 4, 8, 16) if one <= cores)})


def _with_threads(call: Callable[[int], Any], num_threads: int) -> Callable[[int], Any]:
    def run(number: int) -> Any:
        if torch.get_num_threads() != num_threads:
            torch.set_num_threads(num_threads)
        return call(number)

    return run
