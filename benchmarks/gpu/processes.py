"""The part `processes`: two instances on one device, each in a process of its own, as the server has them."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.bars import PROCESSES_SHARE
from benchmarks.gpu.candidates import NUM_BATCHES, answers_of, bare_forward, kindaware_model
from benchmarks.gpu.clock import choose_num_calls, time_calls
from benchmarks.gpu.plan import Plan, open_device
from benchmarks.gpu.stand_in import Batch, stand_in
from benchmarks.networks import NETWORKS
from benchmarks.run import Run
from kindaware.cli.bench._stats import interleave, paired_ratio, spreads

BARE, ONE, TWO = "bare forward, bf16", "1 process", "2 processes"


def run_processes(run: Run, plan: Plan) -> dict[str, Any]:
    """Measure one and two instances, a process each, against the bare forward of the same batch."""
    found: dict[str, Any] = {"scenarios": [], "not_measured": run.missing}
    for network, size in plan.processes:
        run.add(found, f"{network}, {size} requests", partial(_measure, network, size, plan))
    return found


def _measure(network: str, size: int, plan: Plan) -> dict[str, Any]:
    batches = _batches(network, size)
    bare = bare_forward(NETWORKS[network], is_bf16=True)

    def call(number: int) -> Any:
        return bare(batches[number % NUM_BATCHES])

    num_calls = choose_num_calls(call, plan.process_seconds)
    with _instances(network, size, plan.device) as pipes:
        _rate(pipes, plan.process_seconds)
        rounds = interleave(
            {
                BARE: lambda: size / time_calls(call, num_calls).seconds,
                ONE: lambda: _rate(pipes[:1], plan.process_seconds),
                TWO: lambda: _rate(pipes, plan.process_seconds),
            },
            plan.rounds,
        )
    rates = {name: [one[name] for one in rounds] for name in (BARE, ONE, TWO)}
    return {
        "measures": {"rows per second": spreads(rates)},
        "ratios": {
            PROCESSES_SHARE: paired_ratio(rates[TWO], rates[BARE]),
            f"{ONE} / {BARE}": paired_ratio(rates[ONE], rates[BARE]),
        },
        "rounds": rounds,
    }


@contextlib.contextmanager
def _instances(network: str, size: int, device: str) -> Iterator[list[Connection]]:
    """Have two processes with an instance each, for as long as the block lasts."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        for _ in range(2):
            ours, theirs = context.Pipe()
            pipes.append(ours)
            processes.append(context.Process(target=_serve, args=(theirs, network, size, device)))
            processes[-1].start()
            theirs.close()
        for pipe in pipes:
            pipe.recv()
        yield pipes
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join(20)
            process.kill()
            process.join()


def _rate(pipes: Sequence[Connection], seconds: float) -> float:
    """Rows per second of these processes together, all at work for so long."""
    for pipe in pipes:
        pipe.send(seconds)
    return float(sum(pipe.recv() for pipe in pipes))


def _serve(pipe: Connection, network: str, size: int, device: str) -> None:
    """Load an instance, say so, and answer with rows per second until the other end is closed."""
    with open_device(device), stand_in(), contextlib.suppress(EOFError):
        batches = _batches(network, size)
        execute = kindaware_model("bf16", NETWORKS[network], [size])
        for batch in batches:
            answers_of(execute(batch))
        torch.cuda.synchronize()
        pipe.send("ready")
        while True:
            seconds = pipe.recv()
            began = time.perf_counter()
            num_calls, taken = 0, 0.0
            while taken < seconds:
                execute(batches[num_calls % NUM_BATCHES])
                num_calls += 1
                taken = time.perf_counter() - began
            pipe.send(num_calls * size / taken)


def _batches(network: str, size: int) -> list[Batch]:
    return [Batch.of(NETWORKS[network], size, seed) for seed in range(NUM_BATCHES)]
