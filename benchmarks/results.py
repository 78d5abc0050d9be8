"""Results as JSON: what was measured, on what, with what. No names of hosts, no paths."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.servers.repository import HERE

FOLDER = HERE / "results"
PACKAGES = ("kindaware", "torch", "torchvision", "numpy", "nvidia-pytriton", "tritonclient", "grpcio")


def describe_run(arguments: Sequence[str], server_version: str) -> dict[str, Any]:
    """Say when, on which machine, with which versions and by which command something is measured."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks", *arguments]),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", ":/src", ":/benchmarks")),
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": _system(),
            "kernel": platform.release(),
            "load_average": [round(value, 2) for value in os.getloadavg()],
        },
        "versions": {
            "python": platform.python_version(),
            "tritonserver": server_version,
            **{name: _version(name) for name in PACKAGES},
        },
    }


def save(name: str, run: dict[str, Any], parts: dict[str, Any]) -> Path:
    """Write one run and return the file."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps({"run": run, "parts": parts}, indent=1) + "\n")
    return path


def load_all() -> list[dict[str, Any]]:
    """Read every run that was kept, the newest first; not the quick ones, and not those of a GPU."""
    paths = [path for path in FOLDER.glob("*.json") if not path.name.startswith(("quick", "gpu"))]
    runs = [json.loads(path.read_text()) for path in paths]
    return sorted(runs, key=lambda one: one["run"]["date"], reverse=True)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=HERE, check=False, capture_output=True, text=True)
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """Vendor's name and the numbers by which the vendor tells its processors apart."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return "{model name}, family {cpu family} model {model} stepping {stepping}".format(**fields)


def _system() -> str:
    return platform.freedesktop_os_release()["PRETTY_NAME"]
