"""The command: `python -m stress.soak [--quick]`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.machine import describe_run

from stress.soak import docs_page
from stress.soak.bars import bars_of
from stress.soak.figures import Figures, make_figures
from stress.soak.report import write_page
from stress.soak.run import soak

RESULTS = Path(__file__).resolve().parents[1] / "results"
KEPT, QUICK = "soak", "quick"
"""Names of the results: of a long run, which is committed, and of a quick one."""

PACKAGES = ("kindaware", "torch", "numpy", "nvidia-pytriton")


def main() -> int:
    """Run the soak and write what it has found, or write the page; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stress.soak", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three minutes; the result is not kept")
    parser.add_argument("--minutes", type=float, help="how long; 60 unless said")
    parser.add_argument("--rate", type=float, default=320.0, help="most requests a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--without-cancellations",
        action="store_true",
        help="no request is cancelled and no client killed: for servers that crash of it, as 2.51 may",
    )
    parser.add_argument("--page", action="store_true", help="no run: put the kept result into the docs")
    args = parser.parse_args()
    if args.page:
        kept = RESULTS / f"{KEPT}.json"
        for path in docs_page.update(json.loads(kept.read_text()) if kept.exists() else None):
            print(f"wrote {path.name}")
        return 0
    figures = _run(args.minutes or (3.0 if args.quick else 60.0), args)
    for name, text in (("json", json.dumps(figures, indent=1) + "\n"), ("html", write_page(figures))):
        path = RESULTS / f"{QUICK if args.quick else KEPT}.{name}"
        path.write_text(text)
        print(f"wrote {path.name}")
    return 0 if all(one["is_met"] for one in figures["bars"]) else 1


def _run(minutes: float, args: argparse.Namespace) -> Figures:
    about = describe_run(["python -m stress.soak", *sys.argv[1:]], PACKAGES)
    RESULTS.mkdir(exist_ok=True)
    run = soak(
        60 * minutes,
        args.rate,
        fault_every_seconds=8.0 if args.quick else 20.0,
        seed=args.seed,
        cancels=not args.without_cancellations,
        log_path=RESULTS / "server.log",
        say=lambda text: print(text, flush=True),
    )
    figures = make_figures(run, bars_of(run, is_quick=args.quick), about)
    print(f"{figures['requests']:,} requests, {len(run.faults)} faults")
    for outcome, by_model in figures["outcomes"].items():
        print(f"  {outcome}: {by_model}")
    for example in figures["examples"][:10]:
        print(f"  {example}")
    for one in figures["bars"]:
        print(f"{'met   ' if one['is_met'] else 'MISSED'} {one['what']}: {one['found']}")
    return figures


if __name__ == "__main__":
    sys.exit(main())
