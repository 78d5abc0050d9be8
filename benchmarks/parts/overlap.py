"""The part `overlap`: `overlap_calls` on and off, on a simulated GPU whose work takes time.

The host's work is real: the server, the stub, the library and the clients. What the GPU does takes as long as
it is told, so the figures say how the two go together, and nothing about a device.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.networks import INPUT, OUTPUT
from benchmarks.run import Run
from benchmarks.servers.load import LoadError, ask, measure_in_turns
from benchmarks.servers.repository import parameters_text
from benchmarks.servers.target import Target, read_values, triton_target
from benchmarks.servers.triton import address_of, tritonserver
from kindaware import KindAwareModel
from kindaware._batch.stages import Stage
from kindaware.cli.bench._stats import paired_ratio, spreads, values_of
from kindaware.testing import ModelHarness, SimulatedAccelerator

ON, OFF = "overlap_calls", "one call at a time"
WIDTH, NUM_OUTPUTS, ROWS = 128 * 128, 1000, 32
BYTES_PER_SECOND = 25e9
FIXED_SHARE = 0.25
"""Of the time of a full batch, how much a batch of one row would take as well."""

BATCH_MS = (4.0, 12.0, 36.0)
"""How long the GPU computes a full batch."""

SECONDS = 0.5
NUM_CALLS = 6
TIMELINE_MS = 10.0


@dataclass(frozen=True)
class OnSimulatedGpu:
    """A model whose instance has a simulated GPU.

    Attributes:
        batch_ms: how long that computes a full batch.
        overlaps: the setting.
    """

    batch_ms: float
    overlaps: bool
    form: str = "simulated_gpu"

    @property
    def name(self) -> str:
        """The model's name."""
        return f"gpu_{self.batch_ms:g}ms_{'overlapping' if self.overlaps else 'plain'}".replace(".", "_")

    @property
    def parameters(self) -> dict[str, str]:
        """Of the configuration."""
        seconds = self.batch_ms / 1e3
        return {
            "byte": repr(1 / BYTES_PER_SECOND),
            "forward": repr(FIXED_SHARE * seconds),
            "row": repr((1 - FIXED_SHARE) * seconds / ROWS),
            "width": str(NUM_OUTPUTS),
            **_settings(self.overlaps),
        }

    def config(self) -> str:
        """Return the text of its config.pbtxt."""
        text = f"""\
name: "{self.name}"
backend: "python"
max_batch_size: {ROWS}
input [ {{ name: "{INPUT}" data_type: TYPE_FP32 dims: [ {WIDTH} ] }} ]
output [ {{ name: "{OUTPUT}" data_type: TYPE_FP32 dims: [ {NUM_OUTPUTS} ] }} ]
instance_group [ {{ kind: KIND_MODEL }} ]
dynamic_batching {{ }}
"""
        return text + parameters_text(self.parameters)


def _settings(overlaps: bool) -> dict[str, str]:
    """Return the settings of both models: with one thread none waits for another on a busy core."""
    overlap_calls = "true" if overlaps else "false"
    return {
        "kindaware.warmup": "off",
        "kindaware.num_threads": "1",
        "kindaware.overlap_calls": overlap_calls,
    }


def run_overlap(run: Run) -> dict[str, Any]:
    """Compare consecutive calls that overlap with those that don't.

    Returns:
        By time of the device for a full batch, requests per second with two batches of requests in flight,
        and with one; and what host and device did when, in process.
    """
    found: dict[str, Any] = {"simulated": True, "scenarios": [], "not_measured": run.missing}
    found |= {"rows": ROWS, "row_bytes": WIDTH * 4, "bytes_per_second": BYTES_PER_SECOND}
    for batch_ms in BATCH_MS[:: run.choose(1, 2)]:
        models = {ON: OnSimulatedGpu(batch_ms, True), OFF: OnSimulatedGpu(batch_ms, False)}
        with tritonserver(models.values(), run.say) as server:
            address = address_of(server, run.args.client)
            row = torch.rand(1, WIDTH, generator=torch.Generator().manual_seed(0))
            targets = {
                name: triton_target(run.args.client, address, model.name, row)
                for name, model in models.items()
            }
            for concurrency in (2 * ROWS, ROWS):
                name = f"batch of {batch_ms:g} ms, {concurrency} requests in flight"
                run.add(found, name, functools.partial(_compare, run, targets, row, concurrency))
    with run.going_on("timeline"):
        found["timeline"] = {ON: record_timeline(True), OFF: record_timeline(False)}
    return found


def _compare(run: Run, targets: dict[str, Target], row: torch.Tensor, concurrency: int) -> dict[str, Any]:
    for name, target in targets.items():
        answer = read_values(target, ask(target)[0], (1, NUM_OUTPUTS))
        if not np.array_equal(answer, 2 * row[:, :NUM_OUTPUTS].numpy()):
            raise LoadError(f"{name}: expected twice the row, got something else; correct the model")
    rounds = measure_in_turns(targets, concurrency, run.seconds(SECONDS), run.rounds(11, 2))
    rates = values_of(rounds, "requests_per_second")
    return {
        "measures": {
            "requests per second": spreads(rates),
            "p50, ms": spreads(values_of(rounds, "p50_ms")),
        },
        "ratios": {f"rate: {ON} / {OFF}": paired_ratio(rates[ON], rates[OFF])},
        "rounds": rounds,
    }


class _Doubling(KindAwareModel):
    """What the server's model computes."""

    def load(self) -> None:
        """There is nothing to load."""

    def forward(self, X: torch.Tensor) -> torch.Tensor:  # noqa: N803 - the input's name
        return X[:, :NUM_OUTPUTS] * 2


_KERNEL = "aten::mul.Tensor"
_LANES = {"copy to the device": "copy in", "copy to the host": "copy out", _KERNEL: "compute"}


def record_timeline(overlaps: bool) -> list[dict[str, Any]]:
    """Pass calls to `execute`, one as soon as the last has returned, as a server does that has requests.

    Returns:
        What was busy when: lane, start and end in milliseconds since the first call. Lanes are those of the
        device, and the stages of the host.
    """

    def cost(name: str, num_bytes: int) -> float:
        if name == _KERNEL:
            return TIMELINE_MS / 1e3
        return num_bytes / 2 / BYTES_PER_SECOND if name in _LANES else 0.0

    config = {
        "name": "gpu",
        "max_batch_size": ROWS,
        "input": [{"name": INPUT, "data_type": "TYPE_FP32", "dims": [WIDTH]}],
        "output": [{"name": OUTPUT, "data_type": "TYPE_FP32", "dims": [NUM_OUTPUTS]}],
    }
    accelerator = SimulatedAccelerator(1, cost=cost)
    rows = [{INPUT: row} for row in np.random.default_rng(0).random((ROWS, 1, WIDTH), np.float32)]
    with ModelHarness(
        _Doubling, config=config, parameters=_settings(overlaps), kind="GPU", accelerator=accelerator
    ) as harness:
        for stream in harness.stream_batch(rows):
            list(stream)
        num_before = len(accelerator.history)
        with _recorded(harness.instance._kindaware_instance.stages()) as busy:
            started = time.perf_counter()
            streams = [stream for _ in range(NUM_CALLS) for stream in harness.stream_batch(rows)]
            for stream in streams:
                list(stream)
        busy += [(_LANES[one.name], one.start, one.end) for one in accelerator.history[num_before:]]
    return [
        {"lane": lane, "start_ms": 1e3 * (start - started), "end_ms": 1e3 * (end - started)}
        for lane, start, end in sorted(busy, key=lambda one: one[1])
    ]


@contextmanager
def _recorded(stages: Iterable[Stage]) -> Iterator[list[tuple[str, float, float]]]:
    """Record when the methods of stages ran, until the block is left."""
    busy: list[tuple[str, float, float]] = []

    def timed(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def run(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*args, **options)
            finally:
                busy.append((name, start, time.perf_counter()))

        return run

    with ExitStack() as stack:
        for one in stages:
            setattr(one.owner, one.method, timed(f"host: {one.name}", getattr(one.owner, one.method)))
            stack.callback(delattr, one.owner, one.method)
        yield busy
