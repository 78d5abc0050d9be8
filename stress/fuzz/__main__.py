"""The command: `python -m stress.fuzz [--inputs N] [--seed N]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stress.fuzz.run import Report, fuzz

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main() -> int:
    """Run the fuzz; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stress.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="how many requests, about")
    parser.add_argument("--seed", type=int, default=0, help="another one draws other requests")
    args = parser.parse_args()
    report = fuzz(args.inputs, args.seed, say=lambda text: print(text, flush=True))
    _write(report)
    print(report.describe())
    return 1 if report.findings else 0


def _write(report: Report) -> None:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "fuzz.txt"
    path.write_text(report.describe() + "\n")
    print(f"wrote {path.name}")


if __name__ == "__main__":
    sys.exit(main())
