"""`SequenceMixin`: the part of the model's API that concerns sequences."""

from __future__ import annotations

from kindaware._batch.request_info import RequestInfo
from kindaware._errors import KindAwareError, message
from kindaware._execute.sequence_state import SequenceState
from kindaware._execute.sequences import Sequences
from kindaware._hooks.attachment import attached


class SequenceMixin:
    """Adds `sequence_state` and `reschedule` to a model."""

    @property
    def sequence_state(self) -> SequenceState:
        """The model's state per sequence, by correlation id; for use in `forward` and `postprocess`.

        See `SequenceState` for what it may hold, and when a change takes effect.

        Raises:
            KindAwareError: the configuration has no `sequence_batching`, or `initialize` has not run.
        """
        return _sequences_of(self, "self.sequence_state").state

    def reschedule(self, request: RequestInfo) -> None:
        """Reschedule a request instead of answering it; for use in `forward` and `postprocess`.

        The server passes the request to the model again, in a later batch. The rows that are returned for it
        now are dropped; its `sequence_state` is kept. The configuration must have
        `sequence_batching { iterative_sequence: true }`.

        Args:
            request: one of the hook's argument `requests`.

        Raises:
            RequestError: the configuration has no `iterative_sequence`, or the request has the flag END.
            KindAwareError: the configuration has no `sequence_batching`, or `initialize` has not run.
        """
        _sequences_of(self, "self.reschedule").reschedule(request)


def _sequences_of(owner: object, what: str) -> Sequences:
    sequences: Sequences | None = attached(owner, what).sequences
    if sequences is None:
        raise KindAwareError(
            message(
                what,
                expected="a model with sequence_batching",
                got="none in its configuration",
                remedy="add it to config.pbtxt",
            )
        )
    return sequences
