"""What a model keeps per sequence: changed by a forward that succeeds, and by no other."""

from __future__ import annotations

import copy
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

import torch

from kindaware._errors import KindAwareError, describe, message

CorrelationId = int | str
ABSENT = object()
"""Stands for the value of a sequence for which the model keeps none."""


class SequenceState(MutableMapping[CorrelationId, Any]):
    """What a model keeps per sequence, by correlation id; `self.sequence_state` of a model.

    Has the sequences of the batch that `forward` works on, and none else. A sequence that has just begun has
    no value. What `forward` reads is a copy of its own; what it has changed or set becomes the sequence's
    value when the request is answered, and is forgotten when it fails. So a batch may be run again in parts.

    Values are tensors on any device, numbers, text, lists, tuples and dicts of them, or anything else that
    `copy.deepcopy` takes. They are copied when they are read, and once more behind `forward`: what is kept
    shares no memory with a batch.
    """

    def __init__(self) -> None:
        self.kept: dict[CorrelationId, Any] = {}
        self._changed: dict[CorrelationId, Any] = {}
        self._batch: Sequence[CorrelationId] = ()

    def begin(self, batch: Sequence[CorrelationId]) -> None:
        """Start a forward of these sequences; what an earlier one has changed for them is forgotten."""
        self._batch = batch
        for sequence in batch:
            self._changed.pop(sequence, None)

    def seal(self) -> None:
        """Copy what the forward has changed, so that it stays as it is now.

        Raises:
            KindAwareError: a value can't be copied.
        """
        for sequence in self._batch:
            if sequence in self._changed:
                self._changed[sequence] = _copied(self._changed[sequence], sequence)

    def take(self, sequence: CorrelationId) -> Any:
        """Give what a sequence's value is now that its request was answered."""
        return self._changed.get(sequence, self.kept.get(sequence, ABSENT))

    def end(self) -> None:
        """End a call of `execute`: what was changed and not taken is forgotten."""
        self._changed.clear()
        self._batch = ()

    def __getitem__(self, sequence: CorrelationId) -> Any:
        self._check(sequence)
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
        self[sequence]  # raises where there is none
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


def _copied(value: Any, sequence: CorrelationId) -> Any:
    """Copy a value. A tensor alone: deepcopy would copy all memory of which the tensor is a part."""
    if value is ABSENT or isinstance(value, (int, float, str, bytes, type(None))):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if type(value) is dict:
        return {key: _copied(one, sequence) for key, one in value.items()}
    if type(value) is list or type(value) is tuple:
        return type(value)(_copied(one, sequence) for one in value)
    try:
        return copy.deepcopy(value)
    except (TypeError, copy.Error) as error:  # memory that ran out, and a fault of the device, go on
        raise KindAwareError(
            message(
                f"self.sequence_state[{sequence!r}]",
                expected="a value that copy.deepcopy takes",
                got=f"{type(value).__name__} ({describe(error)})",
                remedy="keep tensors, numbers, text, and lists, tuples and dicts of them",
            )
        ) from error
