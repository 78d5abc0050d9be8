"""One call of a module: its arguments as tensors and the rest, and which of their sizes are the batch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

TOLERANCE = 0.05
"""By how much answers may differ, of the largest value: for rounding, also that of BF16. Those of other code
are off by more."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ModuleCall:
    """The arguments of a call.

    Attributes:
        leaves: the arguments without the tuples, lists and dicts around them.
        spec: these, as torch's pytree.
        num_rows: rows of the batch; None where no size is the batch's.
        form: per leaf what compiled code relies on: dtype, sizes and layout of a tensor, whose rows may vary;
            the value of any other.
    """

    leaves: Sequence[Any]
    spec: Any
    num_rows: int | None
    form: tuple[Any, ...]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any], *, batches: bool) -> ModuleCall:
        """Read the arguments; a tensor of unusual strides is copied, since compiled code relies on them."""
        leaves, spec = pytree.tree_flatten((args, kwargs))
        leaves = [_dense(one) if isinstance(one, torch.Tensor) else one for one in leaves]
        return cls._of(leaves, spec, batches)

    @classmethod
    def _of(cls, leaves: Sequence[Any], spec: Any, batches: bool) -> ModuleCall:
        sizes = [one.shape[0] for one in leaves if isinstance(one, torch.Tensor) and one.dim()]
        num_rows = sizes[0] if batches and sizes else None
        return cls(leaves, spec, num_rows, tuple(_form(one, num_rows) for one in leaves))

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors among the leaves."""
        return [one for one in self.leaves if isinstance(one, torch.Tensor)]

    def is_like(self, other: ModuleCall) -> bool:
        """Whether the same code answers both."""
        return self.form == other.form and self.spec == other.spec

    def describe(self) -> list[str]:
        """Return a description of the form, the same in each process."""
        return [pytree.treespec_dumps(self.spec), repr(self.form)]

    def without_values(self) -> ModuleCall:
        """Return the call without its tensors, to compare others with."""
        return replace(self, leaves=())

    def is_batch(self, value: object) -> bool:
        """Whether dimension 0 of a leaf is the batch's."""
        return _has_rows(value, self.num_rows)

    def with_rows(self) -> ModuleCall:
        """Return a call of at least two rows, with tensors of its own.

        torch.export takes sizes of 1 for constants.
        """

        def example(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            if self.is_batch(value) and self.num_rows == 1:
                value = torch.cat([value, value])
            return value.clone()

        with torch.inference_mode(False):
            leaves = [example(one) for one in self.leaves]
        return self._of(leaves, self.spec, batches=self.num_rows is not None)

    def with_noise(self) -> ModuleCall:
        """Return the call with noise on all real numbers, from a fixed seed: zeros show little."""
        random = torch.Generator().manual_seed(0)

        def noisy(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or not value.is_floating_point():
                return value
            return value + torch.randn(value.shape, generator=random).to(value)

        return replace(self, leaves=[noisy(one) for one in self.leaves])

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments by position and by name."""
        args, kwargs = pytree.tree_unflatten(self.leaves, self.spec)
        return args, kwargs


def agree(
    compiled: Callable[[Sequence[torch.Tensor]], Any], forward: Callable[..., Any], call: ModuleCall
) -> bool:
    """Whether compiled code answers like a module's forward, for a single row and for several."""
    for one in (call, call.with_rows()):
        noisy = one.with_noise()
        args, kwargs = noisy.arguments()
        found, expected = (
            pytree.tree_flatten(it) for it in (compiled(noisy.tensors), forward(*args, **kwargs))
        )
        if found[1] != expected[1] or not all(map(_agree, found[0], expected[0])):
            return False
    return True


def _agree(found: Any, expected: Any) -> bool:
    if not isinstance(expected, torch.Tensor):
        return bool(found == expected)
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return False
    if not expected.numel():
        return True
    if not expected.is_floating_point():
        # Rounding may decide between two equal classes.
        return bool((found == expected).float().mean() >= 1 - TOLERANCE)
    found, expected = found.double().nan_to_num(), expected.double().nan_to_num()
    return bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    is_dense = tensor.is_contiguous() or _is_channels_last(tensor)
    return tensor if is_dense else tensor.contiguous()


def _is_channels_last(tensor: torch.Tensor) -> bool:
    return tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)


def _has_rows(value: object, num_rows: int | None) -> bool:
    return (
        num_rows is not None
        and isinstance(value, torch.Tensor)
        and value.dim() > 0
        and value.shape[0] == num_rows
    )


def _form(value: Any, num_rows: int | None) -> Any:
    if not isinstance(value, torch.Tensor):
        return type(value), value
    sizes = value.shape[1:] if _has_rows(value, num_rows) else value.shape
    return value.dtype, value.dim(), tuple(sizes), value.is_contiguous()
