"""The command: `python -m stress.soak [--quick]`."""

from __future__ import annotations

import argparse
import platform
import sys
from importlib import metadata
from pathlib import Path

from stress.soak.bars import bars_of
from stress.soak.report import write_page
from stress.soak.run import soak

RESULTS = Path(__file__).resolve().parents[1] / "results"
PACKAGES = ("kindaware", "torch", "numpy", "nvidia-pytriton")


def main() -> int:
    """Run the soak, and write its page; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stress.soak", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three minutes")
    parser.add_argument("--minutes", type=float, help="how long; 60 unless said")
    parser.add_argument("--rate", type=float, default=320.0, help="most requests a second")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    minutes = args.minutes or (3.0 if args.quick else 60.0)
    every = 8.0 if args.quick else 20.0
    run = soak(60 * minutes, args.rate, every, args.seed, say=lambda text: print(text, flush=True))
    bars = bars_of(run, is_quick=minutes < 30)
    about = {
        "command": " ".join(["python -m stress.soak", *sys.argv[1:]]),
        "machine": f"{platform.platform()}, {platform.processor() or platform.machine()}",
        "versions": f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / ("quick.html" if args.quick else "soak.html")
    path.write_text(write_page(run, bars, about))
    print(f"{run.tally.num_requests} requests, {len(run.faults)} faults")
    for name, outcomes in sorted(run.tally.outcomes.items()):
        print(f"  {name}: {dict(outcomes)}")
    for example in run.tally.examples[:10]:
        print(f"  {example}")
    for one in bars:
        print(f"{'met   ' if one.is_met else 'MISSED'} {one.what}: {one.found}")
    print(f"wrote {path.name}")
    return 0 if all(one.is_met for one in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
