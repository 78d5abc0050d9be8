"""The part `staging`: the library's way to the device and back, against plain copies of the same bytes."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import torch

from benchmarks.bars import STAGING_IN, STAGING_OUT
from benchmarks.gpu.candidates import DEVICE
from benchmarks.gpu.clock import time_in_turns, with_threads
from benchmarks.gpu.plan import MIB, Plan
from benchmarks.run import Run
from kindaware._device.runtime import CudaRuntime
from kindaware._device.staging import PinnedStaging
from kindaware.cli.bench._stats import paired_ratio, spreads, values_of

NUM_REQUESTS = 32
NUM_SETS = 4
"""How many batches take turns, so that the last one is in no cache."""

HOST, PINNED_IN, PINNED_OUT = "host copy", "pinned copy to the device", "pinned copy to the host"
STAGED_IN, STAGED_OUT = "staging to the device", "staging to the host"


def run_staging(run: Run, plan: Plan) -> dict[str, Any]:
    """Time the way to the device and back against plain copies of the same bytes.

    A batch has 32 requests of one row; the largest size is measured with one request of one row too. What is
    compared is waited for at the end of each call, as a batch's answers are.
    """
    found: dict[str, Any] = {
        "scenarios": [],
        "not_measured": run.missing,
        "threads_of_an_instance": torch.get_num_threads(),
    }
    runtime = CudaRuntime(torch.device(DEVICE))
    runtime.activate()
    batches = [(size, NUM_REQUESTS) for size in plan.staging_sizes]
    for size, num_requests in [*batches, (max(plan.staging_sizes), 1)]:
        run.add(found, name_of(size, num_requests), partial(_measure, runtime, size, num_requests, plan))
    return found


def name_of(num_bytes: int, num_requests: int) -> str:
    """Return what a batch is called."""
    size = f"{num_bytes // MIB} MiB" if num_bytes >= MIB else f"{num_bytes // 1024} KiB"
    return f"staging, {size}" if num_requests == NUM_REQUESTS else f"staging, {size}, {num_requests} request"


class _Copies:
    """The copies of one size, by plain torch and as an instance does it; each waits until it is done."""

    def __init__(self, runtime: CudaRuntime, num_bytes: int, num_requests: int) -> None:
        self._runtime = runtime
        self._staging = PinnedStaging(runtime, 4 * max(num_bytes, MIB))
        width = num_bytes // num_requests // 4
        self._sets = [[torch.rand(1, width) for _ in range(num_requests)] for _ in range(NUM_SETS)]
        self._pinned = runtime.new_pinned(num_bytes).view(torch.float32).view(num_requests, width)
        self._pinned.fill_(1.0)
        self._device = torch.rand(num_requests, width).to(DEVICE)

    def on_host(self, number: int) -> None:
        torch.cat(self._sets[number % NUM_SETS], out=self._pinned)

    def pinned_in(self, number: int) -> None:
        self._device.copy_(self._pinned, non_blocking=True)
        self._runtime.wait()

    def pinned_out(self, number: int) -> None:
        self._pinned.copy_(self._device, non_blocking=True)
        self._runtime.wait()

    def staged_in(self, number: int) -> torch.Tensor:
        self._staging.begin_call()
        batch = self._staging.put(self._sets[number % NUM_SETS])
        self._staging.settle()
        return batch

    def staged_out(self, number: int) -> torch.Tensor:
        self._staging.begin_call()
        return self._staging.fetch({"Y": self._device})["Y"]

    def check(self) -> None:
        """Fail where something else arrives than was sent."""
        for number in range(NUM_SETS):
            assert torch.equal(self.staged_in(number).cpu(), torch.cat(self._sets[number]))
        assert torch.equal(self.staged_out(0), self._device.cpu())


def _measure(runtime: CudaRuntime, num_bytes: int, num_requests: int, plan: Plan) -> dict[str, Any]:
    with runtime.scope():
        copies = _Copies(runtime, num_bytes, num_requests)
        copies.check()
        return _compare(copies, num_bytes, plan)


def _compare(copies: _Copies, num_bytes: int, plan: Plan) -> dict[str, Any]:
    num_threads, num_cores = torch.get_num_threads(), len(os.sched_getaffinity(0))
    counts = sorted({num_threads, *(one for one in (1, 2, 4, 8, 16) if one <= num_cores)})
    calls = with_threads(HOST, copies.on_host, counts)
    calls |= {PINNED_IN: copies.pinned_in, STAGED_IN: copies.staged_in}
    calls |= {PINNED_OUT: copies.pinned_out, STAGED_OUT: copies.staged_out}
    rounds = time_in_turns(calls, plan.seconds / 4, plan.rounds)
    taken = values_of(rounds, "seconds")
    own_copy = list(taken)[counts.index(num_threads)]
    pairs = zip(taken[own_copy], taken[PINNED_IN], strict=True)
    rates = {name: [num_bytes / one / 1e9 for one in values] for name, values in taken.items()}
    return {
        "measures": {"GB/s": spreads(rates)},
        "ratios": {
            STAGING_IN: paired_ratio(taken[STAGED_IN], [max(pair) for pair in pairs]),
            STAGING_OUT: paired_ratio(taken[STAGED_OUT], taken[PINNED_OUT]),
        },
        "rounds": rounds,
    }
