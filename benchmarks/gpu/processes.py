"""The part `processes`: two instances on one device, each in a process of its own, as the server has them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.candidates import BareForward
from benchmarks.gpu.clock import choose_num_calls, time_calls
from benchmarks.gpu.forwards import NUM_BATCHES
from benchmarks.gpu.requests import Batch
from benchmarks.networks import NETWORKS
from benchmarks.stats import Spread, interleave, paired_ratio

ROOT = Path(__file__).resolve().parents[2]
BARE, ONE, TWO = "bare forward, bf16", "1 process", "2 processes"
SHARE = "2 processes / bare forward, bf16"


def run_processes(
    network: str, size: int, device: str, rounds: int, seconds: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure one and two processes, and the bare forward of the same batch in this one, in turns."""
    say(f"{network}, {size} requests: starting two processes")
    batches = [Batch.of(NETWORKS[network], size, seed) for seed in range(NUM_BATCHES)]
    is_picture = len(NETWORKS[network].input_shape) == 3
    bare = BareForward(NETWORKS[network], batches, dtype=torch.bfloat16, is_channels_last=is_picture)

    def call(number: int) -> Any:
        return bare(batches[number % NUM_BATCHES])

    num_calls = choose_num_calls(call, seconds)
    with _Workers(network, size, device) as workers:
        workers.rate(seconds, 2)
        say(f"{network}, {size} requests, 1 and 2 processes: {rounds} rounds")
        found = interleave(
            {
                BARE: lambda: size / time_calls(call, num_calls).seconds,
                ONE: lambda: workers.rate(seconds, 1),
                TWO: lambda: workers.rate(seconds, 2),
            },
            rounds,
        )
    rates = {name: [one[name] for one in found] for name in found[0]}
    return {
        "network": network,
        "requests": size,
        "rows_per_second": {name: asdict(Spread.of(values)) for name, values in rates.items()},
        "ratios": {
            SHARE: asdict(paired_ratio(rates[TWO], rates[BARE])),
            "1 process / bare forward, bf16": asdict(paired_ratio(rates[ONE], rates[BARE])),
        },
        "rounds": found,
    }


class _Workers:
    """Two processes with an instance each, for as long as a `with` block lasts."""

    def __init__(self, network: str, size: int, device: str) -> None:
        self._command = [sys.executable, "-m", "benchmarks.gpu.worker", network, str(size), device]
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> _Workers:
        for _ in range(2):
            self._processes.append(
                subprocess.Popen(
                    self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
        try:
            for process in self._processes:
                self._read(process)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def rate(self, seconds: float, number: int) -> float:
        """Rows per second of so many processes together, all at work for so long."""
        working = self._processes[:number]
        for process in working:
            assert process.stdin is not None
            process.stdin.write(f"run {seconds}\n")
            process.stdin.flush()
        answers = [self._read(process).split() for process in working]
        return sum(int(rows) / float(taken) for rows, taken in answers)

    def _read(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"worker: expected a line, got its end with status {process.wait()}; see above"
            )
        return line

    def _end(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            if process.poll() is None:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()
