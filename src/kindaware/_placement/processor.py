"""The processor, as far as compiled code and measured choices depend on it."""

from __future__ import annotations

import platform
from pathlib import Path

_LINES = ("model name", "flags", "CPU implementer", "CPU part", "Features")
"""Of /proc/cpuinfo: the first two on x86, the others on Arm."""


def describe_processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name and the instructions it has: the same text for the same processor."""
    lines = [line.partition(":") for line in cpuinfo.read_text().split("\n\n", 1)[0].splitlines()]
    found = {key.strip(): " ".join(sorted(value.split())) for key, _, value in lines}
    return "; ".join([platform.machine(), *(found[key] for key in _LINES if key in found)])
