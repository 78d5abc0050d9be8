"""A process with one instance, as the server has one per instance; the part `processes` starts two.

It is told what to do in lines: `run SECONDS` is answered with rows and seconds, the end of the input ends it.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from benchmarks.gpu.candidates import Served
from benchmarks.gpu.device import open_device
from benchmarks.gpu.forwards import BF16, NUM_BATCHES, settings_of
from benchmarks.gpu.requests import Batch, stand_in
from benchmarks.networks import NETWORKS


def main() -> None:
    """Load the instance, say so, and do what the lines say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("network")
    parser.add_argument("size", type=int)
    parser.add_argument("device")
    args = parser.parse_args()
    network = NETWORKS[args.network]
    with open_device(args.device), stand_in():
        batches = [Batch.of(network, args.size, seed) for seed in range(NUM_BATCHES)]
        served = Served(network, settings_of(BF16, network, [args.size]), args.size)
        for batch in batches:
            served.answers(batch)
        torch.cuda.synchronize()
        print("ready", flush=True)
        for line in sys.stdin:
            print(*_run(served, batches, float(line.split()[1])), flush=True)


def _run(served: Served, batches: list[Batch], seconds: float) -> tuple[int, float]:
    began = time.perf_counter()
    num_calls, taken = 0, 0.0
    while taken < seconds:
        served(batches[num_calls % len(batches)])
        num_calls += 1
        taken = time.perf_counter() - began
    return num_calls * len(batches[0].requests), taken


if __name__ == "__main__":
    main()
