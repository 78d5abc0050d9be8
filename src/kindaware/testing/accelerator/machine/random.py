"""Random numbers of a device: a sequence that does not depend on when the work is carried out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


class DeviceRandom:
    """Seeds each random operation of a device on its own, in the order of the calls."""

    def __init__(self) -> None:
        self._seed = 0
        self._num_drawn = 0

    def manual_seed(self, seed: int) -> None:
        """Start a new sequence."""
        self._seed, self._num_drawn = seed, 0

    def seeded(self, compute: Callable[[], Any]) -> Callable[[], Any]:
        """Return the operation with the next seed of the sequence; the host's generator is left as it was."""
        self._num_drawn += 1
        return functools.partial(_compute_seeded, compute, hash((self._seed, self._num_drawn)) % 2**63)


def _compute_seeded(compute: Callable[[], Any], seed: int) -> Any:
    # The elements lie on the host, so the operation draws from the generator of the host.
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        return compute()
    finally:
        generator.set_state(state)


def is_random(func: Any) -> bool:
    """Return whether an operation draws random numbers from the generator of its device."""
    return torch.Tag.nondeterministic_seeded in func.tags
