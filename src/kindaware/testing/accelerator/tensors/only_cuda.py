"""Operations that torch has for CUDA only: composed of others, or refused."""

from __future__ import annotations

import functools
from typing import Any

import torch

from kindaware.testing.accelerator.machine.errors import not_on_host

_Optional = torch.Tensor | None


def _with_biases(
    of_input: torch.Tensor, of_hidden: torch.Tensor, input_bias: _Optional, hidden_bias: _Optional
) -> tuple[torch.Tensor, torch.Tensor]:
    if input_bias is not None and hidden_bias is not None:
        return of_input + input_bias, of_hidden + hidden_bias
    return of_input, of_hidden


def _lstm_cell(
    of_input: torch.Tensor,
    of_hidden: torch.Tensor,
    cell: torch.Tensor,
    input_bias: _Optional = None,
    hidden_bias: _Optional = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute one step of an LSTM, after the two matrix products."""
    one, other = _with_biases(of_input, of_hidden, input_bias, hidden_bias)
    gates = one + other
    let_in, keep, new, let_out = gates.chunk(4, -1)
    cell = keep.sigmoid() * cell + let_in.sigmoid() * new.tanh()
    return let_out.sigmoid() * cell.tanh(), cell, gates


def _gru_cell(
    of_input: torch.Tensor,
    of_hidden: torch.Tensor,
    hidden: torch.Tensor,
    input_bias: _Optional = None,
    hidden_bias: _Optional = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute one step of a GRU, after the two matrix products."""
    one, other = _with_biases(of_input, of_hidden, input_bias, hidden_bias)
    (reset, update, new), (reset_, update_, new_) = one.chunk(3, -1), other.chunk(3, -1)
    kept = (update + update_).sigmoid()
    fresh = (new + (reset + reset_).sigmoid() * new_).tanh()
    return fresh + kept * (hidden - fresh), one


class _Made:
    """Stands for an overload that is computed by a function."""

    def __init__(self, func: Any, compute: Any) -> None:
        self._schema = func._schema
        self._compute = compute
        self.name = func.name
        self.tags = func.tags

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._compute(*args, **kwargs)


_aten = torch.ops.aten
_MADE = {
    func: _Made(func, compute)
    for func, compute in (
        (_aten._thnn_fused_lstm_cell.default, _lstm_cell),
        (_aten._thnn_fused_gru_cell.default, _gru_cell),
    )
}


@functools.cache
def replacement_of(func: Any) -> Any:
    """Return what computes an operation on the host: as a rule, the operation itself.

    Raises:
        NotImplementedError: there is nothing on the host that computes it.
    """
    if func in _MADE:
        return _MADE[func]
    if not torch._C._dispatch_has_computed_kernel_for_dispatch_key(func.name(), "CPU"):
        raise not_on_host(func.name())
    return func
