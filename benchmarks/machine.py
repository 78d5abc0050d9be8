"""When, on what and with what something is measured. No names of hosts, no paths."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
UNKNOWN = "not known"
PACKED_COMMIT = ROOT / "build" / "gpu-day" / "commit"
"""Where `scripts/gpu-day pack` leaves the commit for a machine that gets the files and no repository."""


def describe_run(command: Sequence[str], packages: Sequence[str]) -> dict[str, Any]:
    """Return the description of a run that begins now: its command, and the versions of some packages."""
    commit = output_of("git", "rev-parse", "HEAD")
    changes = output_of("git", "status", "--porcelain", "--", ":/src", ":/benchmarks")
    if commit == UNKNOWN and PACKED_COMMIT.exists():
        commit, _, changes = PACKED_COMMIT.read_text().strip().partition(" ")
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(command),
        "commit": commit,
        "uncommitted_changes": changes not in ("", UNKNOWN),
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": _system(),
            "kernel": platform.release(),
            "load_average": [round(value, 2) for value in os.getloadavg()],
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
    }


def output_of(*command: str) -> str:
    """Return what a program prints; `not known` where there is no such program, or it fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The processor's name, and the numbers by which its vendor tells it from others."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    names = [fields.get(key, UNKNOWN) for key in ("model name", "cpu family", "model", "stepping")]
    return "{}, family {} model {} stepping {}".format(*names)


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return UNKNOWN
