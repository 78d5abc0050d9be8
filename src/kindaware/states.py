"""Helpers for the states of `step`: caches of different lengths side by side, and a cache with slots."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import torch
from torch import nn

from kindaware._errors import KindAwareError, message

__all__ = ["SlotCache", "cut_apart", "pad_together"]


def pad_together(tensors: Sequence[torch.Tensor], dim: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack tensors that differ in size along one dimension, such as the keys of several streams.

    Args:
        tensors: at least one, [..., L, ...] each, of one dtype, on one device.
        dim: the dimension of L, counted without the new one; negative counts from the end.

    Returns:
        The tensors, padded behind their ends with zeros, [B, ..., longest L, ...]; and L of each, int64 [B],
        on the same device.
    """
    axis = dim % tensors[0].ndim
    lengths = [one.shape[axis] for one in tensors]
    shape = list(tensors[0].shape)
    shape[axis] = max(lengths)
    padded = tensors[0].new_zeros(len(tensors), *shape)
    for row, one, length in zip(padded, tensors, lengths, strict=True):
        row.narrow(axis, 0, length).copy_(one)
    return padded, torch.tensor(lengths, device=padded.device)


def cut_apart(
    padded: torch.Tensor, lengths: Sequence[int] | torch.Tensor, dim: int = 0
) -> list[torch.Tensor]:
    """Return the rows of a padded tensor, each cut to its own length: the inverse of `pad_together`.

    Args:
        padded: [B, ..., longest L, ...].
        lengths: L of each row.
        dim: the dimension of L, counted without the first; negative counts from the end.

    Returns:
        Views, [..., L, ...] each. A state that outlives the step should keep a copy: a view keeps all rows.

    Sync:
        Host with the device of `lengths`, if that is a tensor.
    """
    axis = dim % (padded.ndim - 1)
    numbers = lengths.tolist() if isinstance(lengths, torch.Tensor) else lengths
    return [row.narrow(axis, 0, length) for row, length in zip(padded, numbers, strict=True)]


class SlotCache(nn.Module):
    """Tensors with a slot for each open stream, allocated once.

    The memory never moves and has the same shape in each step, so `step` can be compiled, and reads and
    writes a cache without copying it. As an attribute of the model it is a module like any other: it is moved
    to the instance's device, and converted to its precision.

        self.cache = SlotCache(self.settings.max_streams, keys=(6, 8, 512, 32), values=(6, 8, 512, 32))

    `begin` takes a slot, the state keeps its number, and `end` releases it. The lowest free slot is taken
    first, so that the first `num_rows` slots hold all streams, and `cache.keys[:cache.num_rows]` is a view.

    A state with the number of a slot is immutable, so a step that fails is repeated. That is right as long as
    a step writes only behind the length that the state names, and reads nothing there before.

    Args:
        num_slots: number of slots, as many as streams may be open.
        shapes: shape of each tensor without the slot, by the name of the attribute that holds it; the tensors
            are [num_slots, ...], float32, zeros.

    Attributes:
        num_slots: number of slots.

    Raises:
        ValueError: there are no slots.
    """

    def __init__(self, num_slots: int, **shapes: Sequence[int]) -> None:
        super().__init__()
        if num_slots < 1:
            text = message(
                "SlotCache num_slots",
                expected="a whole number, 1 or more",
                got=str(num_slots),
                remedy="use self.settings.max_streams",
            )
            raise ValueError(text)
        self.num_slots = num_slots
        self._free = list(range(num_slots))
        self._taken: set[int] = set()
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(num_slots, *shape), persistent=False)

    @property
    def num_rows(self) -> int:
        """How many slots from the first on hold all that are taken; those between them may be free."""
        return 1 + max(self._taken, default=-1)

    def take(self) -> int:
        """Return the lowest free slot, which holds what its last stream has left there.

        Raises:
            KindAwareError: none is free.
        """
        if not self._free:
            raise KindAwareError(
                message(
                    "SlotCache",
                    expected=f"at most {self.num_slots} streams with a slot",
                    got="one more",
                    remedy="make as many slots as max_streams, and release each in end(self, state)",
                )
            )
        slot = heapq.heappop(self._free)
        self._taken.add(slot)
        return slot

    def release(self, slot: int) -> None:
        """Make a slot free for another stream.

        Raises:
            KindAwareError: it is free.
        """
        if slot not in self._taken:
            raise KindAwareError(
                message(
                    f"SlotCache slot {slot}",
                    expected="a slot that is taken",
                    got="a free one",
                    remedy="release it once, in end(self, state)",
                )
            )
        self._taken.remove(slot)
        heapq.heappush(self._free, slot)
