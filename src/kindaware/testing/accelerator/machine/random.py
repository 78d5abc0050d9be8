"""Random numbers of a device: a sequence of its own, whenever the work is carried out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


class DeviceRandom:
    """Seeds the operations of one device one by one, in the order in which they are called."""

    def __init__(self) -> None:
        self._seed = 0
        self._num_drawn = 0

    def manual_seed(self, seed: int) -> None:
        """Start again."""
        self._seed, self._num_drawn = seed, 0

    def seeded(self, compute: Callable[[], Any]) -> Callable[[], Any]:
        """Bind an operation to the next part of the sequence; the host's own numbers stay as they are."""
        self._num_drawn += 1
        return functools.partial(_compute_seeded, compute, hash((self._seed, self._num_drawn)) % 2**63)


def _compute_seeded(compute: Callable[[], Any], seed: int) -> Any:
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        return compute()
    finally:
        generator.set_state(state)


def is_random(func: Any) -> bool:
    """Say whether an operation draws random numbers of the device's own generator."""
    return torch.Tag.nondeterministic_seeded in func.tags
