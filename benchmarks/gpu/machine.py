"""On what something was measured: the GPU, the processor, the versions. No names of hosts, no paths."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
UNKNOWN = "not known"
PACKED_COMMIT = ROOT / "build" / "gpu-day" / "commit"
"""Where `scripts/gpu-day pack` leaves the commit for a machine that gets the files and no repository."""


def describe_run(arguments: Sequence[str]) -> dict[str, Any]:
    """Say when, on which machine, with which versions and by which command something is measured."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks.gpu", *arguments]),
        "commit": _commit(),
        "gpu": {
            "name": torch.cuda.get_device_name(0),
            "visible": torch.cuda.device_count(),
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
            "capability": ".".join(map(str, torch.cuda.get_device_capability(0))),
            "driver": _driver(),
        },
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "kernel": platform.release(),
            "load_average": [round(value, 2) for value in os.getloadavg()],
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda or UNKNOWN,
            "cudnn": torch.backends.cudnn.version() or UNKNOWN,
            "numpy": np.__version__,
        },
        "tf32": {
            "convolutions": torch.backends.cudnn.allow_tf32,
            "matrix_products": torch.backends.cuda.matmul.allow_tf32,
        },
    }


def slug_of(gpu: str) -> str:
    """The name of a GPU as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


def _commit() -> str:
    said = _output_of(
        "git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty= with changes"
    )
    if said == UNKNOWN and PACKED_COMMIT.exists():
        said = PACKED_COMMIT.read_text().strip()
    return said


def _driver() -> str:
    said = _output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    if said != UNKNOWN:
        return said.splitlines()[0].strip()
    with contextlib.suppress(OSError):
        found = re.search(r"\d+\.\d+(\.\d+)?", Path("/proc/driver/nvidia/version").read_text())
        return found.group() if found else UNKNOWN
    return UNKNOWN


def _processor() -> str:
    """The processor's name, and the numbers by which its vendor tells it from others."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    named = [fields.get(key, UNKNOWN) for key in ("model name", "cpu family", "model", "stepping")]
    return "{}, family {} model {} stepping {}".format(*named)


def _output_of(*command: str) -> str:
    """What a program prints; `not known` where there is no such program, or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return done.stdout.strip() or UNKNOWN
