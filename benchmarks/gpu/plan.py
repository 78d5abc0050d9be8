"""How much a run on a GPU measures, and on which device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.bars import STAGING_MIB

KIB, MIB = 2**10, 2**20


@dataclass(frozen=True)
class Plan:
    """What one run measures.

    Attributes:
        device: see `open_device`.
        networks: by name.
        sizes: requests per call of `execute`, in the order of measuring.
        staging_sizes: bytes of a batch.
        processes: networks, and requests per call, of the part with two processes.
        rounds: in which the candidates take turns.
        seconds: of one measurement.
        process_seconds: of one measurement with two processes.
        minutes: after which no further measurement is begun.
    """

    device: str
    networks: Sequence[str]
    sizes: Sequence[int]
    staging_sizes: Sequence[int]
    processes: Sequence[tuple[str, int]]
    rounds: int
    seconds: float
    process_seconds: float
    minutes: float


FULL = Plan(
    device="cuda",
    networks=("resnet50", "transformer"),
    sizes=(32, 1, 8, 128),
    staging_sizes=(64 * KIB, 256 * KIB, MIB, 4 * MIB, *(mib * MIB for mib in STAGING_MIB)),
    processes=(("resnet50", 32), ("transformer", 32)),
    rounds=12,
    seconds=0.08,
    process_seconds=0.7,
    minutes=8.0,
)
QUICK = replace(
    FULL,
    sizes=(32, 1),
    staging_sizes=(64 * KIB, MIB, 8 * MIB, 64 * MIB),
    processes=(("resnet50", 32),),
    rounds=4,
    seconds=0.04,
    process_seconds=0.4,
    minutes=1.7,
)
TRY = Plan(
    device="simulated",
    networks=("identity",),
    sizes=(3, 1),
    staging_sizes=(64 * KIB, 4 * MIB),
    processes=(("identity", 3),),
    rounds=1,
    seconds=0.0,
    process_seconds=0.05,
    minutes=5.0,
)


@contextlib.contextmanager
def open_device(name: str) -> Iterator[None]:
    """Make a device usable until the block is left: torch's first GPU, `cuda`, or a `simulated` one.

    Raises:
        SystemExit: torch sees no GPU.
    """
    if name == "simulated":
        from kindaware.testing import SimulatedAccelerator

        accelerator = SimulatedAccelerator(1)
        with accelerator.installed(_fail), accelerator.entered():
            yield
        return
    if not torch.cuda.is_available():
        raise SystemExit(
            f"benchmark: expected a GPU that torch sees, got none (torch.version.cuda {torch.version.cuda}); "
            "run it where there is one, or try it with --try"
        )
    torch.cuda.set_device(0)
    yield


def _fail(outcome: str, remedy: str) -> None:
    raise AssertionError(f"on a GPU this would {outcome}; {remedy}")
