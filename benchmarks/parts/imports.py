"""The part `imports`: what `import kindaware` costs after `import torch`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from benchmarks.bars import IMPORT
from benchmarks.run import Run
from kindaware.cli.bench._stats import paired_ratio, spreads

_SCRIPT = """\
import time
started = time.perf_counter()
import torch
between = time.perf_counter()
import kindaware
print(between - started, time.perf_counter() - between)
"""


def run_imports(run: Run) -> dict[str, Any]:
    """Time `import kindaware` against `import torch`, in new processes."""
    num_rounds = run.rounds(12, 3)
    run.say(f"imports: {num_rounds} processes")
    rounds = [_import_both() for _ in range(num_rounds + 1)][1:]  # the first one fills the disk's cache
    seconds = {name: [one[name] for one in rounds] for name in ("torch", "kindaware")}
    return {
        "seconds": spreads(seconds),
        "ratios": {IMPORT: paired_ratio(seconds["kindaware"], seconds["torch"])},
        "rounds": seconds,
    }


def _import_both() -> dict[str, float]:
    command = [sys.executable, "-c", _SCRIPT]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(zip(("torch", "kindaware"), map(float, output.split()), strict=True))
