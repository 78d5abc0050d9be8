"""The device that is measured: torch's first GPU; or a simulated one, to try the benchmark without a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

DEVICES = ("cuda", "simulated")


@contextlib.contextmanager
def open_device(name: str) -> Iterator[None]:
    """Make the device usable until the block is left.

    Raises:
        SystemExit: torch sees no GPU.
    """
    if name == "simulated":
        from kindaware.testing.accelerator import SimulatedAccelerator

        accelerator = SimulatedAccelerator(1)
        with accelerator.installed(_raise), accelerator.entered():
            yield
        return
    if not torch.cuda.is_available():
        raise SystemExit(
            f"benchmark: expected a GPU that torch sees, got none (torch.version.cuda {torch.version.cuda}); "
            "run it where there is one, or try it with --try"
        )
    torch.cuda.set_device(0)
    yield


def _raise(outcome: str, remedy: str) -> None:
    raise AssertionError(f"on a GPU this would {outcome}; {remedy}")
