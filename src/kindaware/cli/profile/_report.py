"""What `kindaware profile` prints."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from kindaware import KindAwareModel
from kindaware.cli._stages import EXECUTE, FORWARD, order_stages
from kindaware.cli._table import align
from kindaware.cli.profile._run import Measured

NUM_OPERATORS = 10


def describe_machine(model: Any) -> dict[str, str]:
    """Describe the machine and the versions, without the name of the host and without paths."""
    on_gpu = isinstance(model, KindAwareModel) and model.device.type == "cuda"
    gpu = f", {torch.cuda.get_device_name(model.device)}" if on_gpu else ""
    return {
        "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} cores{gpu}",
        "versions": f"kindaware {importlib.metadata.version('kindaware')}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
    }


def describe_instance(model: Any, args: dict[str, str]) -> str:
    """Describe the instance that is profiled."""
    text = f"{args['model_name']} version {args['model_version']}, "
    if not isinstance(model, KindAwareModel):
        return (
            f"{text}{args['model_instance_name']}, kind {args['model_instance_kind']}, not a KindAwareModel"
        )
    return (
        f"{text}{args['model_instance_name']} on {model.device}, {torch.get_num_threads()} threads, "
        f"precision {model.settings.precision}"
    )


def write_report(about: dict[str, str], measured: Measured, num_requests: int) -> str:
    """Write what was measured: a head, the table of stages, and the operators of forward."""
    lines = ["kindaware profile", *align(list(about.items()), left=2), ""]
    lines += align(list(_stage_rows(measured, num_requests)), left=1)
    total = sum(measured.stages.values())
    lines += ["", f"under torch's profiler execute took {measured.traced_seconds / total:.2f} times as long"]
    if measured.operators:
        lines += ["operators of forward there, without what they call", ""]
        lines += align(list(_operator_rows(measured)), left=1)
    elif FORWARD in measured.stages:
        lines.append("no operators of forward there: they ran on another thread, or there are none")
    return "\n".join(lines)


def write_json(about: dict[str, str], measured: Measured, num_requests: int) -> str:
    """Write the same as one line of JSON: milliseconds of one `execute`, without torch's profiler."""
    seconds = order_stages(measured.stages)
    per_execute = {name: round(one / measured.num_executes * 1e3, 4) for name, one in seconds.items()}
    operators = [
        {
            "name": one.name,
            "calls": one.calls / measured.num_executes,
            "host_milliseconds": round(one.host_us / measured.num_executes / 1e3, 4),
            "device_milliseconds": round(one.device_us / measured.num_executes / 1e3, 4),
        }
        for one in measured.operators
    ]
    return json.dumps(
        {
            **about,
            "executes": measured.num_executes,
            "requests": num_requests,
            "milliseconds": per_execute,
            "slowdown_of_the_profiler": round(measured.traced_seconds / seconds[EXECUTE], 3),
            "operators": operators,
        }
    )


def _stage_rows(measured: Measured, num_requests: int) -> Iterator[tuple[str, ...]]:
    yield "stage", "total ms", "ms per execute", "us per request", "share"
    total = sum(measured.stages.values())
    for name, seconds in order_stages(measured.stages).items():
        per_execute = seconds / measured.num_executes
        yield (
            name,
            f"{seconds * 1e3:.2f}",
            f"{per_execute * 1e3:.3f}",
            f"{per_execute / num_requests * 1e6:.1f}",
            f"{seconds / total:.2%}",
        )


def _operator_rows(measured: Measured) -> Iterator[tuple[str, ...]]:
    on_gpu = any(one.device_us for one in measured.operators)
    yield ("operator", "calls per execute", "host ms", *(["device ms"] if on_gpu else []), "share")
    total = sum(one.device_us if on_gpu else one.host_us for one in measured.operators)
    for one in measured.operators[:NUM_OPERATORS]:
        per_execute = [one.host_us, *([one.device_us] if on_gpu else [])]
        yield (
            one.name,
            f"{one.calls / measured.num_executes:g}",
            *(f"{us / measured.num_executes / 1e3:.3f}" for us in per_execute),
            f"{(one.device_us if on_gpu else one.host_us) / total:.1%}",
        )


def _processor() -> str:
    """Return the vendor's name of the processor, with the numbers that identify the model."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    pairs = (line.partition(":") for line in lines)
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    if not {"model name", "cpu family", "model"} <= fields.keys():  # not those of x86
        return platform.machine()
    return "{model name}, family {cpu family} model {model}".format(**fields)
