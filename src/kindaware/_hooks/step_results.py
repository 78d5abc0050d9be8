"""What `begin` and `step` return for a stream besides an item: its next state, or its end."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

State = TypeVar("State")


@dataclass(frozen=True, slots=True, eq=False)
class Next(Generic[State]):
    """The next state of a stream, and the item to send before it is stepped.

    Attributes:
        state: takes the place of the state that `step` was given.
        item: the item, of the same form as the result of `forward`; None to send nothing.
    """

    state: State
    item: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """The end of a stream.

    Attributes:
        item: the last item, of the same form as the result of `forward`; None to send nothing more.
    """

    item: Any = None


def outcome_of(result: Any, state: Any) -> tuple[Any, Any, bool]:
    """Return the state that a stream has after a step, the item to send, None for none, and whether it ends.

    Args:
        result: what `step` returned for the stream, other than an error.
        state: the state that `step` was given.
    """
    if isinstance(result, Done):
        return state, result.item, True
    if isinstance(result, Next):
        return result.state, result.item, False
    return state, result, False


_VALUES = (torch.Tensor, int, float, str, bytes, torch.dtype, torch.device, type(None))


def is_immutable(state: object) -> bool:
    """Whether a state is replaced by each step, with `Next`, and so is as it was if a step raises.

    That is so for a tuple, a named tuple and a frozen dataclass whose elements are immutable too, numbers and
    text; and within them for tensors, whose elements such a state's step must leave as they are.
    """
    if isinstance(state, torch.Tensor):
        # Alone, as a counter that counts itself up, a tensor says nothing about who changes it.
        return False
    return _is_value(state)


def _is_value(state: object) -> bool:
    if isinstance(state, tuple):
        return all(map(_is_value, state))
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        parameters: Any = getattr(type(state), "__dataclass_params__", None)
        fields = dataclasses.fields(state)
        return bool(parameters.frozen) and all(_is_value(getattr(state, one.name)) for one in fields)
    return isinstance(state, _VALUES)
