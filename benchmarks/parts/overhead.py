"""The parts `overhead` and `growth`: what one `execute` costs around the forward, and how that grows.

The times are taken inside a model (`forms/probe.py`), in the real stub and in a ModelHarness. The client only
sees to it that enough requests come together.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bars import OVERHEAD
from benchmarks.networks import INPUT, NETWORKS, OUTPUT
from benchmarks.servers import start as servers
from benchmarks.servers.load import ask
from benchmarks.servers.repository import Served, write_model
from benchmarks.servers.target import read_values
from benchmarks.stats import Spread, paired_ratio
from kindaware.testing import ModelHarness

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
OVERHEAD_SIZE = 32
_WAIT_MICROSECONDS = 20_000_000


def probe_model(repetitions: int) -> Served:
    """The model that times itself: all its requests are handed over in one call."""
    largest = max(SIZES)
    return Served(
        "probe",
        "identity",
        parameters={"sizes": ",".join(map(str, SIZES)), "repetitions": str(repetitions)},
        max_batch_size=largest,
        batching=f"dynamic_batching {{ preferred_batch_size: [ {largest} ] "
        f"max_queue_delay_microseconds: {_WAIT_MICROSECONDS} }}",
    )


def times_in_stub(repetitions: int, num_runs: int, say: Callable[[str], None]) -> np.ndarray:
    """Time in the stub of a real server: FP32 [runs, 2, sizes, repetitions], microseconds per execute."""
    served = probe_model(repetitions)
    with servers.triton([served], say) as server:
        target = servers.target_of(server, served, "http")
        answers = [ask(target, max(SIZES))[0] for _ in range(num_runs + 1)]
    shape = (2, len(SIZES), repetitions)
    return np.stack([read_values(target, answer, shape) for answer in answers[1:]])


def times_in_process(repetitions: int, num_runs: int) -> np.ndarray:
    """Time in a ModelHarness, on a stand-in for Triton's module: as `times_in_stub`."""
    served = probe_model(repetitions)
    row = NETWORKS["identity"].sample(1).numpy()
    with (
        tempfile.TemporaryDirectory(prefix="kindaware-bench-") as folder,
        ModelHarness(write_model(Path(folder), served)) as model,
    ):
        results = [model.infer_batch([{INPUT: row}] * max(SIZES))[0] for _ in range(num_runs + 1)]
    return np.concatenate([result.outputs[OUTPUT] for result in results[1:]])


def run_overhead(num_runs: int, repetitions: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Compare execute with the calls that can't be avoided, for 32 requests of one row in the real stub.

    A round is one batch of the client; within it the two take turns `repetitions` times.
    """
    say("overhead: in the real stub")
    execute, bare = _per_round(times_in_stub(repetitions, num_runs, say))[
        :, :, SIZES.index(OVERHEAD_SIZE)
    ].T.tolist()
    return {
        "requests": OVERHEAD_SIZE,
        "us_per_request": {
            "execute": asdict(Spread.of([time / OVERHEAD_SIZE for time in execute])),
            "unavoidable calls": asdict(Spread.of([time / OVERHEAD_SIZE for time in bare])),
        },
        "ratios": {OVERHEAD: asdict(paired_ratio(execute, bare))},
        "rounds": {"execute_us": execute, "unavoidable_us": bare},
    }


def run_growth(num_runs: int, repetitions: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Time execute for 1 to 256 requests, in a harness and in the real stub, and fit a line to each."""
    found: dict[str, Any] = {"requests": list(SIZES)}
    for place, times in (("in_process", times_in_process), ("in_stub", partial(times_in_stub, say=say))):
        say(f"growth: {place}")
        execute, bare = np.median(_per_round(times(repetitions, num_runs)), axis=0).tolist()
        found[place] = {
            "execute_us": execute,
            "unavoidable_us": bare,
            "fit": fit_line(list(SIZES), execute),
            "unavoidable_fit": fit_line(list(SIZES), bare),
        }
    return found


def fit_line(sizes: list[int], times_us: list[float]) -> dict[str, float]:
    """Fit time = fixed + per_request * size by least squares of the relative deviations.

    Without weights the largest size alone would decide, and the fixed cost would be noise.

    Returns:
        The two costs in microseconds, and the largest relative deviation from the line.
    """
    x, y = np.asarray(sizes, float), np.asarray(times_us, float)
    fixed, per_request = np.linalg.lstsq(np.stack([1 / y, x / y], axis=1), np.ones_like(y), rcond=None)[0]
    deviation = float(np.abs((fixed + per_request * x) / y - 1).max())
    return {"fixed_us": float(fixed), "per_request_us": float(per_request), "max_deviation": deviation}


def _per_round(times: np.ndarray) -> np.ndarray:
    """[runs, 2, sizes, repetitions] to the medians of each run, [runs, 2, sizes]."""
    return np.median(times, axis=-1)
