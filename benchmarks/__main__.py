"""The command: `python -m benchmarks [PART ...] [--quick]`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from benchmarks import results
from benchmarks.bars import BARS
from benchmarks.machine import describe_run
from benchmarks.parts.curve import run_curve
from benchmarks.parts.gains import run_gains
from benchmarks.parts.imports import run_imports
from benchmarks.parts.memory import run_memory
from benchmarks.parts.overhead import run_growth, run_overhead
from benchmarks.parts.overlap import run_overlap
from benchmarks.parts.padding import run_padding
from benchmarks.parts.serving import run_serving
from benchmarks.parts.sharing import run_sharing
from benchmarks.parts.stages import run_stages
from benchmarks.parts.starts import run_starts
from benchmarks.parts.step import run_step
from benchmarks.parts.threads import run_threads
from benchmarks.parts.tracing import run_tracing
from benchmarks.parts.turns import run_turns
from benchmarks.report import page
from benchmarks.report.plot import draw
from benchmarks.run import Run, make_parser
from benchmarks.servers.repository import Served
from benchmarks.servers.triton import tritonserver

PARTS = {
    "serving": run_serving,
    "turns": run_turns,
    "overhead": run_overhead,
    "growth": run_growth,
    "imports": run_imports,
    "stages": run_stages,
    "curve": run_curve,
    "padding": run_padding,
    "memory": run_memory,
    "sharing": run_sharing,
    "starts": run_starts,
    "threads": run_threads,
    "gains": run_gains,
    "step": run_step,
    "tracing": run_tracing,
    "overlap": run_overlap,
}
DEFAULT_PARTS = ("serving", "turns", "overhead", "growth", "imports", "stages", "curve")
EVERYTHING, PAGE = "all", "page"
PACKAGES = ("kindaware", "torch", "torchvision", "numpy", "nvidia-pytriton", "tritonclient", "grpcio")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, or write the page; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    args = _parse(given)
    if PAGE in args.parts:
        for path in page.update(results.load_all()):
            print(f"wrote {path}")
        return 0
    run = Run(args, describe_run(["python", "-m", "benchmarks", *given], PACKAGES))
    run.about["versions"]["tritonserver"] = _server_version(run)
    status = run.measure({part: PARTS[part] for part in args.parts}, BARS)
    for path in draw(run.parts, results.FOLDER / "quick" if args.quick else page.PICTURES):
        run.say(f"wrote {path.name}")
    run.say(f"results in benchmarks/results/{args.name}.json")
    return status


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("python -m benchmarks", PARTS, EVERYTHING, PAGE)
    parser.description = (
        f"{', '.join(DEFAULT_PARTS)} unless said; `{EVERYTHING}`; or `{PAGE}`: no measurement, the newest "
        "results go into docs/explanation/performance.md and its plot."
    )
    parser.add_argument("--rounds", type=int, help="number of rounds, whatever the part")
    parser.add_argument("--client", choices=("http", "grpc"), default="http", help="protocol of the requests")
    parser.add_argument(
        "--networks",
        type=lambda text: text.split(","),
        default=["mlp", "transformer", "efficientnet_lite0", "resnet50"],
        help="those of serving, curve, threads, gains and starts; with commas",
    )
    args = parser.parse_args(arguments)
    base = "-".join(args.parts) or "bench"
    args.name = args.name or f"{'quick-' if args.quick else ''}{base}-{args.client}"
    args.parts = PARTS if EVERYTHING in args.parts else args.parts or DEFAULT_PARTS
    return args


def _server_version(run: Run) -> str:
    """Ask the server that will be used, with a model that starts fast."""
    with tritonserver([Served("floor", "identity")], run.say) as server:
        return server.server_version


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers are ended on the way out
    sys.exit(main())
