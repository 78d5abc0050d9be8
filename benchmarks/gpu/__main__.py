"""The benchmark on a GPU: `python -m benchmarks.gpu [--quick | --try]`. It needs torch and numpy.

ResNet50 comes from torchvision; where that is missing, the output says so.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import results
from benchmarks.gpu.clock import Deadline
from benchmarks.gpu.device import open_device
from benchmarks.gpu.forwards import Effort, Forms, names_of, run_forwards
from benchmarks.gpu.machine import describe_run, slug_of
from benchmarks.gpu.processes import run_processes
from benchmarks.gpu.requests import stand_in
from benchmarks.gpu.staging import run_staging
from benchmarks.report.gpu import STAGING_BAR_SIZES, judge, report

KIB = 1024
PARTS = ("forwards", "staging", "processes", "compiled")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What one run measures.

    Attributes:
        device: see `gpu_device`.
        networks: by name.
        forwards: rounds, their length, and the requests per call of `execute`, in the order of measuring.
        staging_sizes: bytes of a batch.
        processes: networks, and requests per call, of the part with two processes.
        process_seconds: of one measurement there.
        minutes: after which no further measurement is begun.
    """

    device: str
    networks: Sequence[str]
    forwards: Effort
    staging_sizes: Sequence[int]
    processes: Sequence[tuple[str, int]]
    process_seconds: float
    minutes: float


FULL = Plan(
    device="cuda",
    networks=("resnet50", "transformer"),
    forwards=Effort(rounds=12, seconds=0.08, sizes=(32, 1, 8, 128)),
    staging_sizes=(64 * KIB, 256 * KIB, KIB**2, 4 * KIB**2, *STAGING_BAR_SIZES),
    processes=(("resnet50", 32), ("transformer", 32)),
    process_seconds=0.7,
    minutes=8.0,
)
QUICK = Plan(
    device="cuda",
    networks=("resnet50", "transformer"),
    forwards=Effort(rounds=4, seconds=0.04, sizes=(32, 1)),
    staging_sizes=(64 * KIB, KIB**2, 8 * KIB**2, 64 * KIB**2),
    processes=(("resnet50", 32),),
    process_seconds=0.4,
    minutes=1.7,
)
TRY = Plan(
    device="simulated",
    networks=("identity",),
    forwards=Effort(rounds=1, seconds=0.0, sizes=(3, 1)),
    staging_sizes=(64 * KIB, 4 * KIB**2),
    processes=(("identity", 3),),
    process_seconds=0.05,
    minutes=5.0,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, write what was found after each, print the tables.

    Returns:
        The exit status: 1 where a part failed, or was not begun.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    args = _parse(given)
    plan = TRY if args.is_trial else QUICK if args.quick else FULL
    deadline = Deadline(60 * (args.minutes or plan.minutes))
    parts: dict[str, Any] = {}

    def say(text: str) -> None:
        print(f"[{deadline.elapsed:5.0f} s] {text}", flush=True)

    with open_device(plan.device), stand_in():
        torch.set_num_threads(min(4, len(os.sched_getaffinity(0))))  # as an instance on a GPU does
        run = describe_run(given)
        name = args.name or f"{'quick-' if args.quick else ''}gpu-{slug_of(run['gpu']['name'])}"
        say(f"{run['gpu']['name']}, driver {run['gpu']['driver']}, torch {run['versions']['torch']}")

        def save() -> None:
            if not args.is_trial:
                results.save(name, run, {**parts, "bars": judge(parts)})

        try:
            for _ in _measure(plan, args.parts, parts, deadline, say):
                save()
        except KeyboardInterrupt:
            parts.setdefault("not_measured", {})["what is not listed"] = "the run was interrupted"
        save()
    print("\n".join(report(parts)))
    if args.is_trial:
        say("this was a trial: its figures mean nothing, and are not written")
    else:
        say(f"results in benchmarks/results/{name}.json")
    return 1 if "not_measured" in parts else 0


def _measure(
    plan: Plan, wanted: Sequence[str], parts: dict[str, Any], deadline: Deadline, say: Say
) -> Iterator[None]:
    """Measure part by part, into `parts`; gives way whenever something was found."""
    for part in wanted:
        try:
            if part in ("forwards", "compiled"):
                yield from _networks(part, plan, parts, deadline, say)
            elif part == "staging":
                rounds, seconds = plan.forwards.rounds, plan.forwards.seconds / 4
                for found in run_staging(plan.staging_sizes, rounds, seconds, deadline, say):
                    parts[part] = found
                    yield
            else:
                for network, size in plan.processes:
                    if deadline.left < 30:
                        missing = parts.setdefault("not_measured", {})
                        missing[f"{part}, {network}"] = "there was no time left"
                        continue
                    found = run_processes(
                        network, size, plan.device, plan.forwards.rounds, plan.process_seconds, say
                    )
                    parts.setdefault(part, {})[network] = found
                    yield
        except Exception as error:  # the other parts are worth having all the same
            parts.setdefault("not_measured", {})[part] = f"{type(error).__name__}: {error}"
            say(f"NOT MEASURED: {part}: {error!r}")


def _networks(part: str, plan: Plan, parts: dict[str, Any], deadline: Deadline, say: Say) -> Iterator[None]:
    for network in plan.networks:
        names = names_of(is_compiled=part == "compiled")
        forms = Forms(network, names, sorted(plan.forwards.sizes))
        for found in run_forwards(forms, plan.forwards, deadline, say):
            parts.setdefault(part, {})[network] = found
            yield
        del forms
        torch.cuda.empty_cache()


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; all unless said"
    )
    parser.add_argument("--quick", action="store_true", help="in two minutes: no figures to keep")
    parser.add_argument(
        "--try", action="store_true", dest="is_trial", help="tiny sizes on a simulated GPU; no figures at all"
    )
    parser.add_argument("--minutes", type=float, help="after which no further measurement is begun")
    parser.add_argument("--name", help="of the result file; unless said, made of the GPU's name")
    args = parser.parse_args(arguments)
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser.error(f"parts: expected some of {', '.join(PARTS)}, got {unknown[0]!r}; see --help")
    args.parts = args.parts or [part for part in PARTS if not (args.quick and part == "compiled")]
    return args


if __name__ == "__main__":
    sys.exit(main())
