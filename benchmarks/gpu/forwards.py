"""The parts `forwards` and `compiled`: one call of `execute` with 1 to 128 requests, host to host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.bars import FLOOR_SHARE
from benchmarks.gpu import candidates
from benchmarks.gpu.candidates import NUM_BATCHES, Compute
from benchmarks.gpu.clock import Call, time_in_turns, with_threads
from benchmarks.gpu.plan import Plan
from benchmarks.gpu.stand_in import Array, Batch
from benchmarks.networks import NETWORKS, Network
from benchmarks.run import Run
from kindaware.cli.bench._stats import Spread, paired_ratio, values_of

TOLERANCE, TOLERANCE_BF16 = 0.01, 0.03
"""How far answers may differ from the CPU's, of its largest; convolutions in FP32 run in TF32."""

BARE, BARE_BF16, LOOP = "bare forward", "bare forward, bf16", "per-request loop"
EAGER, BF16, GRAPHS = "kindaware", "kindaware, bf16", "kindaware, bf16, graphs"
OVERLAPPING = "kindaware, bf16, overlapping"
COMPILED, COMPILED_GRAPHS = "kindaware, bf16, compiled", "kindaware, bf16, compiled, graphs"
HOST_COPY = "host copy"


def run_forwards(run: Run, plan: Plan) -> dict[str, Any]:
    """Time one call of `execute` with 1 to 128 requests, host to host."""
    return _measure_networks(run, plan, [BARE, BARE_BF16, HOST_COPY, LOOP, EAGER, BF16, GRAPHS, OVERLAPPING])


def run_compiled(run: Run, plan: Plan) -> dict[str, Any]:
    """Time the same with `compile`, in a part of its own, since compiling is slow."""
    return _measure_networks(run, plan, [BARE_BF16, BF16, COMPILED, COMPILED_GRAPHS])


def _measure_networks(run: Run, plan: Plan, names: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"scenarios": [], "not_measured": run.missing}
    for network in plan.networks:
        with run.going_on(network):
            reference = NETWORKS[network].build()
            computes: dict[str, Compute] = {}
            for name in [one for one in names if one != HOST_COPY]:
                with run.going_on(f"{network}, {name}"):
                    run.check_time()
                    computes[name] = _make(name, NETWORKS[network], sorted(plan.sizes))
            for size in plan.sizes:
                batches = [Batch.of(NETWORKS[network], size, seed) for seed in range(NUM_BATCHES)]
                calls = host_copies(batches) if HOST_COPY in names else {}
                for name, compute in computes.items():
                    with run.going_on(f"{network}, {size} requests, {name}"):
                        check_answers(name, candidates.answers_of(compute(batches[0])), reference, batches[0])
                        calls[name] = partial(_compute_in_turns, compute, batches)
                run.add(found, f"{network}, {size} requests", partial(_measure, calls, size, plan))
        computes, calls = {}, {}
        torch.cuda.empty_cache()
    return found


def _make(name: str, network: Network, sizes: list[int]) -> Compute:
    if name in (BARE, BARE_BF16):
        return candidates.bare_forward(network, is_bf16=name == BARE_BF16)
    if name == LOOP:
        return candidates.per_request_loop(network)
    return candidates.kindaware_model(name, network, sizes)


def _compute_in_turns(compute: Compute, batches: Sequence[Batch], number: int) -> object:
    return compute(batches[number % NUM_BATCHES])


def host_copies(batches: Sequence[Batch]) -> dict[str, Call]:
    """Return what joins rows in page-locked memory, with one thread, and with as many as an instance has."""
    rows = [[torch.from_numpy(array) for array in batch.arrays] for batch in batches]
    joined = torch.cat(rows[0]).pin_memory()

    def copy(number: int) -> None:
        torch.cat(rows[number % NUM_BATCHES], out=joined)

    return with_threads(HOST_COPY, copy, dict.fromkeys((1, torch.get_num_threads())))


def _measure(calls: Mapping[str, Call], num_rows: int, plan: Plan) -> dict[str, Any]:
    rounds = time_in_turns(calls, plan.seconds, plan.rounds)
    seconds, device = values_of(rounds, "seconds"), values_of(rounds, "device_seconds")
    return {
        "measures": {
            "rows per second": {name: Spread.of(num_rows / np.array(one)) for name, one in seconds.items()},
            "ms": {name: Spread.of(1e3 * np.array(one)) for name, one in seconds.items()},
            "ms between events": {name: Spread.of(1e3 * np.array(one)) for name, one in device.items()},
        },
        "ratios": dict(_ratios(seconds)),
        "rounds": rounds,
    }


def _ratios(seconds: Mapping[str, Sequence[float]]) -> Iterator[tuple[str, Spread]]:
    """Compare what was measured in the same round; the host copy is the faster one of the round."""
    copies = [values for name, values in seconds.items() if name.startswith(HOST_COPY)]
    if copies and {BARE_BF16, BF16} <= set(seconds):
        floor = [min(copy) + bare for *copy, bare in zip(*copies, seconds[BARE_BF16], strict=True)]
        yield FLOOR_SHARE, paired_ratio(floor, seconds[BF16])
    for name in [one for one in seconds if one.startswith(EAGER)]:
        for other in (LOOP, BARE if name == EAGER else BARE_BF16):
            if other in seconds:
                yield f"{other} / {name}", paired_ratio(seconds[other], seconds[name])


def check_answers(name: str, answers: Array, reference: torch.nn.Module, batch: Batch) -> None:
    """Compare the first answers with the CPU's: within the tolerance, and nearer to no other request's.

    Raises:
        AssertionError: they aren't.
    """
    with torch.inference_mode():
        expected = reference(torch.from_numpy(np.concatenate(batch.arrays[:7]))).numpy()
    got = answers[: len(expected)]
    difference = float(np.abs(got - expected).max() / np.abs(expected).max())
    tolerance = TOLERANCE_BF16 if "bf16" in name else TOLERANCE
    assert difference <= tolerance, f"{name}: expected answers within {tolerance}, got {difference:.3g}"
    distances = np.linalg.norm(got[:, None] - expected[None], axis=-1)
    assert (distances.argmin(axis=1) == np.arange(len(got))).all(), f"{name}: answers of other requests"
