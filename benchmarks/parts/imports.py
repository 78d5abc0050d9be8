"""The part `imports`: what `import kindaware` costs after `import torch`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from benchmarks.bars import IMPORT
from benchmarks.stats import Spread, paired_ratio

_SCRIPT = """\
import time
started = time.perf_counter()
import torch
between = time.perf_counter()
import kindaware
print(between - started, time.perf_counter() - between)
"""


def run_imports(num_rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Import both in as many new processes, after one that fills the disk's cache."""
    say(f"imports: {num_rounds} processes")
    rounds = [_import_both() for _ in range(num_rounds + 1)][1:]
    torch_seconds, own_seconds = (list(values) for values in zip(*rounds, strict=True))
    return {
        "seconds": {
            "torch": asdict(Spread.of(torch_seconds)),
            "kindaware": asdict(Spread.of(own_seconds)),
        },
        "ratios": {IMPORT: asdict(paired_ratio(own_seconds, torch_seconds))},
        "rounds": {"torch": torch_seconds, "kindaware": own_seconds},
    }


def _import_both() -> tuple[float, float]:
    command = [sys.executable, "-c", _SCRIPT]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    torch_seconds, own_seconds = map(float, output.split())
    return torch_seconds, own_seconds
