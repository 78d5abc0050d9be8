"""The parts `overhead` and `growth`: what one `execute` costs around the forward, and how that grows.

The times are taken inside a model (`forms/probe.py`), in the real stub and in a ModelHarness. The client only
sees to it that enough requests come together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.bars import OVERHEAD
from benchmarks.networks import INPUT, NETWORKS, OUTPUT
from benchmarks.run import Run
from benchmarks.servers.load import ask
from benchmarks.servers.repository import Served, repository
from benchmarks.servers.target import read_values
from benchmarks.servers.triton import target_of, tritonserver
from kindaware.cli.bench._stats import Spread, paired_ratio
from kindaware.testing import ModelHarness

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
REPETITIONS = 40
OVERHEAD_SIZE = 32

PROBE = Served(
    "probe",
    "identity",
    parameters={"sizes": ",".join(map(str, SIZES)), "repetitions": str(REPETITIONS)},
    max_batch_size=max(SIZES),
    batching=f"dynamic_batching {{ preferred_batch_size: [ {max(SIZES)} ] "
    "max_queue_delay_microseconds: 20000000 }",
)
"""The model that times itself: all its requests are handed over in one call."""

Times = np.ndarray[Any, Any]
"""FP32 [runs, 2, sizes]: microseconds per call, of `execute` and of the calls that can't be avoided."""


def run_overhead(run: Run) -> dict[str, Any]:
    """Compare execute with the calls that can't be avoided, for 32 requests of one row in the real stub.

    A round is one batch of the client; within it the two take turns.
    """
    run.say("overhead: in the real stub")
    execute, bare = times_in_stub(run)[:, :, SIZES.index(OVERHEAD_SIZE)].T.tolist()
    return {
        "requests": OVERHEAD_SIZE,
        "us_per_request": {
            "execute": Spread.of([time / OVERHEAD_SIZE for time in execute]),
            "unavoidable calls": Spread.of([time / OVERHEAD_SIZE for time in bare]),
        },
        "ratios": {OVERHEAD: paired_ratio(execute, bare)},
        "rounds": {"execute_us": execute, "unavoidable_us": bare},
    }


def run_growth(run: Run) -> dict[str, Any]:
    """Time execute for 1 to 256 requests, in a harness and in the real stub, and fit a line to each."""
    found: dict[str, Any] = {"requests": SIZES}
    for place, times in (("in_process", times_in_process), ("in_stub", times_in_stub)):
        run.say(f"growth: {place}")
        execute, bare = np.median(times(run), axis=0).tolist()
        found[place] = {
            "execute_us": execute,
            "unavoidable_us": bare,
            "fit": fit_line(SIZES, execute),
            "unavoidable_fit": fit_line(SIZES, bare),
        }
    return found


def times_in_stub(run: Run) -> Times:
    """Time in the stub of a real server."""
    shape = (2, len(SIZES), REPETITIONS)
    with tritonserver([PROBE], run.say) as server:
        target = target_of(server, PROBE, "http")
        return _medians(run, lambda: read_values(target, ask(target, max(SIZES))[0], shape))


def times_in_process(run: Run) -> Times:
    """Time in a ModelHarness, on a stand-in for Triton's module."""
    requests = [{INPUT: NETWORKS["identity"].sample(1).numpy()}] * max(SIZES)
    with repository([PROBE]) as folder, ModelHarness(folder / PROBE.name) as model:
        return _medians(run, lambda: model.infer_batch(requests)[0].outputs[OUTPUT][0])


def _medians(run: Run, ask_once: Callable[[], Times]) -> Times:
    """The medians of the repetitions, [2, sizes, repetitions], of all answers but the first."""
    answers = [ask_once() for _ in range(run.rounds(12, 4) + 1)]
    medians: Times = np.median(np.stack(answers[1:]), axis=-1)
    return medians


def fit_line(sizes: Sequence[int], times_us: Sequence[float]) -> dict[str, float]:
    """Fit time = fixed + per_request * size by least squares of the relative deviations.

    Without weights the largest size alone would decide, and the fixed cost would be noise.

    Returns:
        The two costs in microseconds, and the largest relative deviation from the line.
    """
    x, y = np.asarray(sizes, float), np.asarray(times_us, float)
    fixed, per_request = np.linalg.lstsq(np.stack([1 / y, x / y], axis=1), np.ones_like(y), rcond=None)[0]
    deviation = float(np.abs((fixed + per_request * x) / y - 1).max())
    return {"fixed_us": float(fixed), "per_request_us": float(per_request), "max_deviation": deviation}
