"""The command: `python -m benchmarks [PART ...] [--quick]`."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import results
from benchmarks.report import report
from benchmarks.repository import HERE

PLOT = HERE.parent / "docs" / "_static" / "throughput_latency.svg"
DEFAULT_PARTS = ("serving", "curve", "overhead", "growth", "imports")
OTHER_PARTS = ("gains", "memory", "plot")
_HELP = """\
parts, all in the first line unless said:
  serving   the forms side by side, at 32, 8 and 1 requests in flight
  curve     throughput against latency, 1 to 64 requests in flight, and its plot
  overhead  execute against the calls that can't be avoided, in the real stub
  growth    time of execute for 1 to 256 requests
  imports   import kindaware against import torch
only when named:
  gains     what each setting brings on each network; takes about an hour, most of it compiling
  memory    memory of an instance over 100,000 requests
  plot      the plot of a run that was saved
"""


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds of each part, and by how much measurements are shortened."""

    rounds: int
    curve_rounds: int
    gains_rounds: int
    runs: int
    repetitions: int
    imports: int
    requests: int
    speed: float


FULL = Effort(
    rounds=11,
    curve_rounds=3,
    gains_rounds=10,
    runs=12,
    repetitions=60,
    imports=12,
    requests=100_000,
    speed=1.0,
)
QUICK = Effort(
    rounds=2, curve_rounds=1, gains_rounds=2, runs=4, repetitions=20, imports=3, requests=10_000, speed=3.0
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, write their results, print the tables; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    args = _parse(given)
    effort = QUICK if args.quick else FULL
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers are ended on the way out
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {text}", flush=True)

    if "plot" in args.parts:
        _plot(results.load(args.name)["curve"], args.quick)
        return 0
    run = results.describe_run(given, _server_version())
    jobs = _jobs(args, effort, say)
    found: dict[str, Any] = {}
    for part in args.parts:
        found[part] = jobs[part]()
        path = results.save(args.name, run, found)
    if "curve" in found:
        _plot(found["curve"], args.quick)
    print("\n".join(report(found)))
    say(f"results in {path.relative_to(HERE.parent)}")
    return 0


def _jobs(
    args: argparse.Namespace, effort: Effort, say: Callable[[str], None]
) -> dict[str, Callable[[], Any]]:
    """The parts as functions without arguments; each imports what it needs."""
    from benchmarks import curve, gains, imports, memory, probe, serving

    rounds = args.rounds
    return {
        "serving": lambda: serving.run_serving(
            args.client, rounds or effort.rounds, effort.speed, args.networks, say
        ),
        "curve": lambda: curve.run_curve(
            args.client, rounds or effort.curve_rounds, effort.speed, args.networks, say
        ),
        "overhead": lambda: probe.run_overhead(rounds or effort.runs, effort.repetitions, say),
        "growth": lambda: probe.run_growth(rounds or effort.runs, effort.repetitions, say),
        "imports": lambda: imports.run_imports(rounds or effort.imports, say),
        "gains": lambda: gains.run_gains(
            args.client, rounds or effort.gains_rounds, effort.speed, args.networks, say
        ),
        "memory": lambda: memory.run_memory(args.client, effort.requests, say),
    }


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", epilog=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*DEFAULT_PARTS, *OTHER_PARTS]
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to measure")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: no figures to keep")
    parser.add_argument("--rounds", type=int, help="number of rounds, whatever the part")
    parser.add_argument("--client", choices=("http", "grpc"), default="http", help="protocol of the requests")
    parser.add_argument("--name", help="of the result file; unless said, made of the parts")
    parser.add_argument(
        "--networks",
        type=lambda text: text.split(","),
        default=["mlp", "transformer", "efficientnet_lite0", "resnet50"],
        help="those of serving, curve and gains; with commas",
    )
    args = parser.parse_args(arguments)
    unknown = [part for part in args.parts if part not in every]
    if unknown:
        parser.error(f"parts: expected some of {', '.join(every)}, got {unknown[0]!r}; see --help")
    args.parts = args.parts or list(DEFAULT_PARTS)
    base = "all" if args.parts == list(DEFAULT_PARTS) else "-".join(args.parts)
    if args.parts == ["plot"]:
        base = "all"
    args.name = args.name or f"{'quick-' if args.quick else ''}{base}-{args.client}"
    return args


def _plot(curve: dict[str, Any], is_quick: bool) -> None:
    from benchmarks.curve import plot

    plot(curve, results.FOLDER / "quick.svg" if is_quick else PLOT)


def _server_version() -> str:
    """Ask the server that will be used, with a model that starts fast."""
    from benchmarks import servers
    from benchmarks.repository import Served

    with servers.triton([Served("floor", "identity")]) as server:
        return server.server_version


if __name__ == "__main__":
    sys.exit(main())
