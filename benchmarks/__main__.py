"""The command: `python -m benchmarks [PART ...] [--quick]`."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks import results
from benchmarks.parts.curve import plot
from benchmarks.parts.scenarios import CURVE_NETWORKS
from benchmarks.report import page
from benchmarks.report.console import report
from benchmarks.report.page import PLOT
from benchmarks.servers import start as servers
from benchmarks.servers.repository import Served
from benchmarks.servers.start import Say, without_folders
from kindaware._errors import describe

DEFAULT_PARTS = ("serving", "turns", "overhead", "growth", "imports", "stages", "curve")
FURTHER_PARTS = ("memory", "gains")
EVERYTHING, PAGE = "all", "page"
_HELP = """\
parts, all in the first paragraph unless said:
  serving   the forms side by side, at 32, 8 and 1 requests in flight
  turns     execute for one request, form by form in turns, in the real stub
  overhead  execute against the calls that can't be avoided, in the real stub
  growth    time of execute for 1 to 256 requests
  imports   import kindaware against import torch
  stages    where the time of a loaded instance goes
  curve     throughput against latency, 1 to 64 requests in flight, and its plot

only when named:
  memory    memory of an instance over 100,000 requests
  gains     what each setting brings on each network; compiling takes minutes
  all       all of these
  page      no measurement: the figures of the newest results, into docs/performance.md and its plot

Results are written as they come. A part that fails is named, and the others go on.
"""


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds of each part, networks of the curve, and by how much all is shortened."""

    rounds: int
    curve_rounds: int
    curve_networks: int
    gains_rounds: int
    runs: int
    repetitions: int
    imports: int
    requests: int
    speed: float


FULL = Effort(
    rounds=11,
    curve_rounds=3,
    curve_networks=2,
    gains_rounds=6,
    runs=12,
    repetitions=40,
    imports=12,
    requests=100_000,
    speed=1.0,
)
QUICK = Effort(
    rounds=2,
    curve_rounds=1,
    curve_networks=1,
    gains_rounds=2,
    runs=4,
    repetitions=20,
    imports=3,
    requests=10_000,
    speed=3.0,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, write their results, print the tables; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    args = _parse(given)
    if PAGE in args.parts:
        return _write_page()
    effort = QUICK if args.quick else FULL
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers are ended on the way out
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {text}", flush=True)

    run = results.describe_run(given, _server_version(say))
    found: dict[str, Any] = {}
    failures: dict[str, str] = {}

    def keep(part: str, result: Any) -> None:
        found[part] = result
        run["minutes"] = round((time.monotonic() - started) / 60, 1)
        results.save(args.name, {**run, "failed": failures}, found)

    try:
        for part in args.parts:
            try:
                keep(part, _measure(part, args, effort, say, partial(keep, part)))
            except Exception as error:
                failures[part] = without_folders(describe(error))
                say(f"FAILED: {part}\n{traceback.format_exc()}")
    finally:
        if found:
            keep(*list(found.items())[-1])
        print("\n".join(report(found)))
        say(f"results in benchmarks/results/{args.name}.json")
    return _end(found, failures, args, say)


def _end(found: dict[str, Any], failures: dict[str, str], args: argparse.Namespace, say: Say) -> int:
    """Draw the plot, and tell what failed; returns the exit status."""
    if found.get("curve", {}).get("networks"):
        plot(found["curve"], results.FOLDER / "quick.svg" if args.quick else PLOT)
    for part, why in failures.items():
        say(f"FAILED: {part}: {why}")
    return 1 if failures else 0


def _measure(
    part: str, args: argparse.Namespace, effort: Effort, say: Say, keep: Callable[[Any], None]
) -> Any:
    """Run one part; each imports what it needs."""
    from benchmarks.parts import gains, imports, memory, serving, stages, turns
    from benchmarks.parts import overhead as probe
    from benchmarks.parts.curve import run_curve

    rounds, client, networks = args.rounds, args.client, args.networks
    curve_networks = [one for one in CURVE_NETWORKS if one in networks][: effort.curve_networks]
    jobs: dict[str, Callable[[], Any]] = {
        "serving": lambda: serving.run_serving(
            client, rounds or effort.rounds, effort.speed, networks, say, keep
        ),
        "curve": lambda: run_curve(
            client, rounds or effort.curve_rounds, effort.speed, curve_networks, say, keep
        ),
        "turns": lambda: turns.run_turns(effort.speed, networks, say),
        "overhead": lambda: probe.run_overhead(rounds or effort.runs, effort.repetitions, say),
        "growth": lambda: probe.run_growth(rounds or effort.runs, effort.repetitions, say),
        "stages": lambda: stages.run_stages(client, effort.speed, networks, say),
        "imports": lambda: imports.run_imports(rounds or effort.imports, say),
        "gains": lambda: gains.run_gains(
            client, rounds or effort.gains_rounds, effort.speed, networks, say, keep
        ),
        "memory": lambda: memory.run_memory(client, effort.requests, say),
    }
    return jobs[part]()


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", epilog=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*DEFAULT_PARTS, *FURTHER_PARTS, EVERYTHING, PAGE]
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
    base = "-".join(args.parts) or "bench"
    if EVERYTHING in args.parts:
        args.parts = [*DEFAULT_PARTS, *FURTHER_PARTS]
    args.parts = args.parts or list(DEFAULT_PARTS)
    args.name = args.name or f"{'quick-' if args.quick else ''}{base}-{args.client}"
    return args


def _write_page() -> int:
    """Put what was measured into the documentation."""
    runs = results.load_all()
    for path in page.update(runs):
        print(f"wrote {path}")
    return 0


def _server_version(say: Say) -> str:
    """Ask the server that will be used, with a model that starts fast."""
    with servers.triton([Served("floor", "identity")], say) as server:
        return server.server_version


if __name__ == "__main__":
    sys.exit(main())
