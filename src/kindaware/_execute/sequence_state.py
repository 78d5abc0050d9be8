"""`SequenceState`: a model's state per sequence, which only a forward that succeeds changes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any

import torch

from kindaware._errors import KindAwareError, describe, message

CorrelationId = int | str
ABSENT = object()
"""Placeholder for the state of a sequence that has none."""


class SequenceState(MutableMapping[CorrelationId, Any]):
    """A model's state per sequence, a mapping by correlation id; `self.sequence_state` of a model.

    It contains the sequences of the current batch only, and a sequence that has just begun has no value.
    `forward` reads a copy; what it changes or sets becomes the sequence's value when the request is answered,
    and is discarded if the request fails. So a batch can be run again in parts.

    Values are tensors on any device, numbers, text, lists, tuples and dicts of them, or anything else that
    `copy.deepcopy` accepts. They are copied on reading, and once more after `forward`: what is kept shares no
    memory with a batch.

    Attributes:
        kept: the values of all sequences, as of their last answered request.

    Raises:
        KeyError: on reading, the sequence has no value.
        KindAwareError: the sequence is not in the current batch, or a value can't be copied.

    Sync:
        None: tensors on a GPU are copied on the current stream.
    """

    def __init__(self) -> None:
        self.kept: dict[CorrelationId, Any] = {}
        # Values that this call has read or set: not yet kept, since the request may still fail.
        self._changed: dict[CorrelationId, Any] = {}
        self._batch: Sequence[CorrelationId] = ()

    def begin(self, batch: Sequence[CorrelationId]) -> None:
        """Start a forward of these sequences, discarding what an earlier one has changed for them."""
        self._batch = batch
        for sequence in batch:
            self._changed.pop(sequence, None)

    def seal(self, wait: Callable[[], None]) -> None:
        """Copy what the forward has changed, so that later changes in place have no effect.

        Args:
            wait: called before a tensor on the host is copied, since it may be written by a queued copy.

        Raises:
            KindAwareError: a value can't be copied.
        """
        for sequence in self._batch:
            if sequence in self._changed:
                self._changed[sequence] = _copied(self._changed[sequence], sequence, wait)

    def take(self, sequence: CorrelationId) -> Any:
        """Return the new value of a sequence whose request was answered; `ABSENT` if it has none."""
        return self._changed.get(sequence, self.kept.get(sequence, ABSENT))

    def end(self) -> None:
        """End a call of `execute`, discarding what was changed and not taken."""
        self._changed.clear()
        self._batch = ()

    def __getitem__(self, sequence: CorrelationId) -> Any:
        self._check(sequence)
        # Reading counts as a change, since the model may modify the copy in place.
        if sequence not in self._changed and self.kept.get(sequence, ABSENT) is not ABSENT:
            self._changed[sequence] = _copied(self.kept[sequence], sequence)
        value = self._changed.get(sequence, ABSENT)
        if value is ABSENT:
            raise KeyError(sequence)
        return value

    def __setitem__(self, sequence: CorrelationId, value: Any) -> None:
        self._check(sequence)
        self._changed[sequence] = value

    def __delitem__(self, sequence: CorrelationId) -> None:
        # Raises KeyError if there is no value to delete.
        self[sequence]
        self._changed[sequence] = ABSENT

    def __iter__(self) -> Iterator[CorrelationId]:
        values = {**self.kept, **self._changed}
        return iter([one for one in self._batch if values.get(one, ABSENT) is not ABSENT])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _check(self, sequence: CorrelationId) -> None:
        if sequence not in self._batch:
            raise KindAwareError(
                message(
                    f"self.sequence_state[{sequence!r}]",
                    expected="the correlation_id of one of the requests, in forward or postprocess",
                    got=f"a batch of {list(self._batch)[:20]}",
                    remedy="name a parameter requests in forward, and use requests[n].correlation_id",
                )
            )


def _copied(value: Any, sequence: CorrelationId, wait: Callable[[], None] = lambda: None) -> Any:
    """Return a copy of a value that shares no memory with it."""
    if value is ABSENT or isinstance(value, (int, float, str, bytes, type(None))):
        return value
    # Not deepcopy, which copies the whole storage: a row of a batch would keep the entire batch.
    if isinstance(value, torch.Tensor):
        if value.device.type == "cpu":
            wait()
        return value.detach().clone()
    # Exact types only: a subclass may have a constructor or attributes of its own, which deepcopy handles.
    if type(value) is dict:
        return {key: _copied(one, sequence, wait) for key, one in value.items()}
    if type(value) is list or type(value) is tuple:
        return type(value)(_copied(one, sequence, wait) for one in value)
    try:
        return copy.deepcopy(value)
    except (TypeError, copy.Error) as error:
        # Nothing else is caught: running out of memory and device faults are handled by the caller.
        raise KindAwareError(
            message(
                f"self.sequence_state[{sequence!r}]",
                expected="a value that copy.deepcopy takes",
                got=f"{type(value).__name__} ({describe(error)})",
                remedy="keep tensors, numbers, text, and lists, tuples and dicts of them",
            )
        ) from error
