"""The benchmark on a GPU: `python -m benchmarks.gpu [--quick | --try]`. It needs torch and numpy.

ResNet50 comes from torchvision; where that is missing, the output says so.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.bars import GPU_BARS
from benchmarks.gpu.forwards import run_compiled, run_forwards
from benchmarks.gpu.plan import FULL, QUICK, TRY, open_device
from benchmarks.gpu.processes import run_processes
from benchmarks.gpu.staging import run_staging
from benchmarks.gpu.stand_in import stand_in
from benchmarks.machine import describe_run, output_of
from benchmarks.run import Run, make_parser

PARTS = {
    "forwards": run_forwards,
    "staging": run_staging,
    "processes": run_processes,
    "compiled": run_compiled,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, write what was found after each, print the tables.

    Returns:
        The exit status: 1 where a part failed.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    args = _parse(given)
    plan = TRY if args.is_trial else QUICK if args.quick else FULL
    with open_device(plan.device), stand_in():
        torch.set_num_threads(min(4, len(os.sched_getaffinity(0))))  # as an instance on a GPU does
        about = describe_run(["python", "-m", "benchmarks.gpu", *given], ("torch", "torchvision", "numpy"))
        about |= _describe_gpu()
        slug = re.sub(r"[^a-z0-9]+", "-", about["gpu"]["name"].lower()).strip("-")
        args.name = args.name or f"{'quick-' if args.quick else ''}gpu-{slug}"
        results_file = f"results in benchmarks/results/{args.name}.json"
        if args.is_trial:
            args.name, results_file = None, "this was a trial: its figures mean nothing, and are not written"
        run = Run(args, about, args.minutes or plan.minutes)
        run.say(f"{about['gpu']['name']}, driver {about['gpu']['driver']}, torch {torch.__version__}")
        status = run.measure({part: partial(PARTS[part], plan=plan) for part in args.parts}, GPU_BARS)
        run.say(results_file)
    return status


def _describe_gpu() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": {
            "name": torch.cuda.get_device_name(0),
            "visible": torch.cuda.device_count(),
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
            "capability": ".".join(map(str, torch.cuda.get_device_capability(0))),
            "driver": output_of(
                "nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"
            ),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        },
        "tf32": {
            "convolutions": torch.backends.cudnn.allow_tf32,
            "matrix_products": torch.backends.cuda.matmul.allow_tf32,
        },
    }


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("python -m benchmarks.gpu", PARTS)
    parser.add_argument(
        "--try", action="store_true", dest="is_trial", help="tiny sizes on a simulated GPU; no figures at all"
    )
    parser.add_argument("--minutes", type=float, help="after which no further measurement is begun")
    args = parser.parse_args(arguments)
    args.parts = args.parts or [part for part in PARTS if not (args.quick and part == "compiled")]
    return args


if __name__ == "__main__":
    sys.exit(main())
