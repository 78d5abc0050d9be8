"""Calls of `execute`: without torch's profiler for the times, and with it for the trace."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kindaware.cli._recorder import PREFIX, Recorder
from kindaware.cli._stages import FORWARD, mark_stages
from kindaware.testing import ModelHarness

MOST_WARM_UPS = 3
MOST_CALLS, FEWEST_CALLS = 20, 3
"""How often `execute` is called, without and then with the profiler, where nobody says."""

WANTED_SECONDS = 20.0
"""Of all calls together; a slow model gets fewer of them."""


@dataclass(frozen=True)
class Operator:
    """One of torch's operators within forward, under the profiler.

    Attributes:
        name: torch's.
        calls: how often it ran.
        host_us: microseconds on the host, without the operators that it called.
        device_us: the same on the GPU.
    """

    name: str
    calls: int
    host_us: float
    device_us: float


@dataclass(frozen=True)
class Measured:
    """What a profile has found.

    Attributes:
        num_executes: how many calls of `execute` there were, each time.
        stages: seconds of each span without the spans in it, without torch's profiler.
        traced_seconds: of all calls under the profiler.
        operators: of forward, the longest first.
    """

    num_executes: int
    stages: Mapping[str, float]
    traced_seconds: float
    operators: Sequence[Operator]


@dataclass(frozen=True)
class WarmUp:
    """Calls before those that count.

    Attributes:
        count: how many there were.
        seconds: of the last one.
        total_seconds: of all.
    """

    count: int
    seconds: float
    total_seconds: float

    def choose_calls(self) -> int:
        """Return how many calls to time, and as many to trace, within the wanted time."""
        # One more call sets the profiler up.
        fitting = ((WANTED_SECONDS - self.total_seconds) / max(self.seconds, 1e-9) - 1) / 2
        return int(min(MOST_CALLS, max(FEWEST_CALLS, fitting)))


def warm_up(model: ModelHarness, requests: Sequence[Mapping[str, Any]]) -> WarmUp:
    """Run `execute` a few times; once where that already takes a part of the wanted time.

    Raises:
        InferenceError: a request failed.
    """
    count, total, last = 0, 0.0, 0.0
    while count < MOST_WARM_UPS and total < WANTED_SECONDS / 10:
        started = time.perf_counter()
        model.infer_batch(requests)
        last = time.perf_counter() - started
        count, total = count + 1, total + last
    return WarmUp(count, last, total)


def measure(
    model: ModelHarness,
    requests: Sequence[Mapping[str, Any]],
    *,
    num_executes: int,
    trace: Path,
    about: Mapping[str, str],
) -> Measured:
    """Run `execute` and write the trace.

    Args:
        model: loaded and warm, with one instance.
        requests: of every call.
        num_executes: how many calls are timed, and as many more traced.
        trace: the file, in the form of Chrome's traces.
        about: goes into the trace.

    Raises:
        InferenceError: a request failed.

    Sync:
        Each call of `execute` waits for the device.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler's own notes on standard error
    recorder = Recorder()
    mark_stages(model.instance, recorder)
    for _ in range(num_executes):
        model.infer_batch(requests)
    stages = dict(recorder.seconds)
    recorder.clear()
    recorder.is_traced = True
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities):
        model.infer_batch(requests)  # the first one pays for setting the profiler up
    recorder.clear()
    with torch.profiler.profile(activities=activities, record_shapes=True) as profiler:
        for _ in range(num_executes):
            model.infer_batch(requests)
        profiler.add_metadata_json("kindaware", json.dumps(dict(about)))
    profiler.export_chrome_trace(str(trace))
    return Measured(num_executes, stages, sum(recorder.seconds.values()), list_operators(profiler.events()))


def list_operators(events: Any) -> list[Operator]:
    """Add up the operators that ran within forward, the longest first."""
    calls: Counter[str] = Counter()
    host: Counter[str] = Counter()
    device: Counter[str] = Counter()
    for event in events:
        if not event.name.startswith(PREFIX) and _is_in_forward(event):
            calls[event.name] += 1
            host[event.name] += event.self_cpu_time_total
            device[event.name] += event.self_device_time_total
    found = [Operator(name, calls[name], host[name], device[name]) for name in calls]
    return sorted(found, key=lambda one: one.host_us + one.device_us, reverse=True)


def _is_in_forward(event: Any) -> bool:
    while event is not None and event.name != PREFIX + FORWARD:
        event = event.cpu_parent
    return event is not None
