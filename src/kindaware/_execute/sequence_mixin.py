"""What a model uses for sequences: `sequence_state` and `reschedule`."""

from __future__ import annotations

from kindaware._batch.request_info import RequestInfo
from kindaware._errors import KindAwareError, message
from kindaware._execute.sequence_state import SequenceState
from kindaware._execute.sequences import Sequences
from kindaware._hooks.attachment import attached


class SequenceMixin:
    """Gives a model `sequence_state` and `reschedule`."""

    @property
    def sequence_state(self) -> SequenceState:
        """What the model keeps per sequence, by correlation id; for `forward` and `postprocess`.

        Raises:
            KindAwareError: the configuration has no `sequence_batching`.
        """
        return _sequences_of(self, "self.sequence_state").state

    def reschedule(self, request: RequestInfo) -> None:
        """Have a request come again, in place of its answer; for `forward` and `postprocess`.

        The rows that are returned for it are dropped. What `sequence_state` has for it is kept. Only where
        the configuration has `sequence_batching { iterative_sequence: true }`.

        Args:
            request: one of the parameter `requests`.

        Raises:
            RequestError: the configuration or the request does not allow it.
            KindAwareError: the configuration has no `sequence_batching`.
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
