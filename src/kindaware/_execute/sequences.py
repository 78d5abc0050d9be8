"""Sequences of requests: which requests are admitted, and which state is kept between them."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from kindaware._batch.request import Request
from kindaware._batch.request_info import SEQUENCE_END, SEQUENCE_START, RequestInfo
from kindaware._batch.results import Failure, Result
from kindaware._config.model_spec import ModelSpec
from kindaware._config.sequence_spec import SequenceSpec
from kindaware._config.settings import Settings
from kindaware._errors import RequestError, message
from kindaware._execute.sequence_state import ABSENT, CorrelationId, SequenceState
from kindaware._hooks.hooks import Hooks

RESCHEDULED = Failure("rescheduled", "INTERNAL")
"""Result of a request that is rescheduled; never sent to a client."""

FILLER = Failure("nobody", "INTERNAL")
"""Result of a request that no client sent; never sent to a client."""

_NOBODY = (0, "")
"""Correlation ids of requests that no client sent; the server refuses them from clients."""

_IDLE_TIMES = 2
"""State is kept for this many times the idle timeout: the server checks for idle sequences only from time to
time, and must have ended a sequence before its state is dropped."""

_QUEUED_CALLS = 4
"""How many of the longest calls a request may wait in the server's queue while its sequence looks idle."""

Answer = Callable[[Sequence[Request | Failure]], Sequence[Result]]


class Sequences:
    """The sequences of one instance. The server routes all requests of a sequence to the same instance.

    Args:
        spec: the configuration of sequence batching.
        model: name of the model, for messages.
        max_sequences: maximum number of sequences whose state is kept.
        clock: returns the time in seconds.

    Attributes:
        state: the model's state per sequence.
    """

    def __init__(
        self,
        spec: SequenceSpec,
        model: str,
        max_sequences: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = SequenceState()
        self._spec = spec
        self._model = model
        self._max_sequences = max_sequences
        self._clock = clock
        # When each known sequence was last answered, the longest idle first.
        self._last_used: dict[CorrelationId, float] = {}
        # Sequences of the current call whose request the model wants again.
        self._again: set[CorrelationId] = set()
        self._longest_call_seconds = 0.0

    @classmethod
    def of_instance(cls, spec: ModelSpec, settings: Settings) -> Sequences | None:
        """Return the sequences of an instance; None if its requests belong to none."""
        return None if spec.sequences is None else cls(spec.sequences, spec.name, settings.max_sequences)

    def run(self, arrivals: Sequence[Request | Failure], answer: Answer) -> list[Result]:
        """Answer the requests of one call.

        With the strategy `direct` the server fills the free slots of a batch with requests that no client
        sent, whose inputs hold arbitrary data. They get a response without outputs, and no hook sees them.
        Source: measured on tritonserver 2.51.0.

        Args:
            arrivals: the requests as read.
            answer: returns the results of admitted requests, and passes failures through.

        Returns:
            One result per arrival; `RESCHEDULED` for a request that the model wants again, `FILLER` for one
            that no client sent.
        """
        started = self._clock()
        infos = [one.info if isinstance(one, Request) else None for one in arrivals]
        results: list[Result] = [FILLER] * len(arrivals)
        slots = [slot for slot, info in enumerate(infos) if info is None or not _is_filler(info)]
        called = {info.correlation_id for info in infos if info is not None}
        self._forget_idle(called)
        admitted = self._admit([arrivals[slot] for slot in slots], called)
        try:
            for slot, arrival, result in zip(slots, admitted, answer(admitted), strict=True):
                results[slot] = self._settle(arrival, result)
        finally:
            self.state.end()
            self._again.clear()
            self._longest_call_seconds = max(self._longest_call_seconds, self._clock() - started)
        return results

    def watch(self, hooks: Hooks, wait: Callable[[], None]) -> Hooks:
        """Return the hooks, wrapped so that the state follows their batches if they have `requests`.

        Args:
            hooks: the user's hooks.
            wait: waits for the host memory that the device writes; see `SequenceState.seal`.
        """
        names = hooks.seeing_batch
        # The first of them to see a batch begins it.
        watched: dict[str, Any] = {
            name: self._watched(getattr(hooks, name), wait, begins=name == names[0]) for name in names
        }
        return replace(hooks, **watched)

    def _watched(
        self, hook: Callable[..., Any], wait: Callable[[], None], *, begins: bool
    ) -> Callable[..., Any]:
        @functools.wraps(hook)
        def watched(*args: Any, requests: Sequence[RequestInfo], **named: Any) -> Any:
            if begins:
                self._begin(requests)
            outputs = hook(*args, requests=requests, **named)
            # After each hook, since what it has stored may share memory with the batch's tensors.
            self.state.seal(wait)
            return outputs

        return watched

    def _begin(self, requests: Sequence[RequestInfo]) -> None:
        """Start a forward of these requests, discarding what an earlier one of the same call has left."""
        batch = [one.correlation_id for one in requests]
        self.state.begin(batch)
        self._again.difference_update(batch)

    def reschedule(self, request: RequestInfo) -> None:
        """Record that the model wants a request of its batch again; see `SequenceMixin.reschedule`.

        Raises:
            RequestError: the request can't be rescheduled.
        """
        refusal: Failure | None = None
        if not self._spec.is_iterative:
            refusal = self._refusal(
                request,
                "UNSUPPORTED",
                expected="sequence_batching { iterative_sequence: true } for a request to come again",
                got="no such line in config.pbtxt",
                remedy="add it, or answer the request",
            )
        elif request.is_end:
            # The server would end the sequence without an answer, and the client would wait forever.
            refusal = self._refusal(
                request,
                "INVALID_ARG",
                expected="a request without the flag END, since the model needs it more than once",
                got="END",
                remedy="send it without sequence_end",
            )
        if refusal is not None:
            raise RequestError(refusal.text, code=refusal.code)
        self._again.add(request.correlation_id)

    def _admit(
        self, arrivals: Sequence[Request | Failure], called: set[CorrelationId]
    ) -> list[Request | Failure]:
        """Return the admitted requests, without control inputs, and failures in place of the others.

        Admitted is a request that starts a sequence, if there is room, or continues a known one.
        """
        seen: set[CorrelationId] = set()
        admitted: list[Request | Failure] = []
        num_new = 0
        for arrival in arrivals:
            if isinstance(arrival, Failure):
                self._note_unread(arrival.info)
                admitted.append(arrival)
                continue
            if arrival.info is None:
                admitted.append(arrival)
                continue
            inputs = {name: one for name, one in arrival.inputs.items() if name not in self._spec.controls}
            request, info = arrival.with_inputs(inputs), arrival.info
            sequence = info.correlation_id
            # Not a filler, so it is of the server's own warm-up: treated as a sequence of one request.
            if sequence in _NOBODY:
                info = replace(info, flags=SEQUENCE_START | SEQUENCE_END)
                request = replace(request, info=info)
            if sequence in seen:
                admitted.append(self._second(info))
                continue
            seen.add(sequence)
            if not info.is_start:
                is_kept = sequence in self._last_used
                admitted.append(request if is_kept else self._unknown(info))
                continue
            # A START for a running sequence ends it, as in the server.
            self._forget(sequence)
            # A sequence of one request keeps no state, so it always has room.
            is_room = info.is_end or self._make_room(num_new, called)
            num_new += is_room and not info.is_end
            admitted.append(request if is_room else self._full(info))
        return admitted

    def _note_unread(self, info: RequestInfo | None) -> None:
        """Forget the sequence of a request that could not be read, if the server has started or ended it."""
        if info is not None and (info.is_start or info.is_end or self._spec.is_iterative):
            self._forget(info.correlation_id)

    def _settle(self, arrival: Request | Failure, result: Result) -> Result:
        """Keep the new state of the sequence, or end the sequence; a failed request changes nothing."""
        if isinstance(arrival, Failure) or arrival.info is None:
            return result
        sequence = arrival.info.correlation_id
        is_failed = isinstance(result, Failure)
        is_again = not is_failed and sequence in self._again
        if arrival.info.is_end or (self._spec.is_iterative and not is_again):
            self._forget(sequence)
        elif not is_failed:
            self._last_used.pop(sequence, None)  # it comes last, as the one least idle
            self._last_used[sequence] = self._clock()
            value = self.state.take(sequence)
            # Absent if the model has deleted its value.
            self.state.kept.pop(sequence, None)
            if value is not ABSENT:
                self.state.kept[sequence] = value
        return RESCHEDULED if is_again else result

    def _forget_idle(self, called: set[CorrelationId]) -> None:
        """Drop sequences that the server has ended because they were idle, also while the instance was busy.

        A request of a sequence that looks idle may be waiting in the server's queue while the instance works.
        So an instance whose calls take long is given the time of several calls more.

        Args:
            called: the sequences of the current call, which are not idle.
        """
        kept_seconds = _IDLE_TIMES * self._spec.idle_seconds + _QUEUED_CALLS * self._longest_call_seconds
        limit = self._clock() - kept_seconds
        # The longest idle come first, so the first that is not idle ends the search.
        idle = itertools.takewhile(lambda item: item[1] < limit, self._last_used.items())
        for sequence in [one for one, _ in idle if one not in called]:
            self._forget(sequence)

    def _make_room(self, num_new: int, called: set[CorrelationId]) -> bool:
        """Return whether one more sequence can be kept, if need be in place of the longest idle one."""
        if len(self._last_used) + num_new < self._max_sequences:
            return True
        # Never more than the maximum are kept, so one that goes is room enough.
        longest_idle = next((one for one in self._last_used if one not in called), None)
        if longest_idle is None:
            return False
        self._forget(longest_idle)
        return True

    def _forget(self, sequence: CorrelationId) -> None:
        self._last_used.pop(sequence, None)
        self.state.kept.pop(sequence, None)

    def _refusal(self, info: RequestInfo, code: str, *, expected: str, got: str, remedy: str) -> Failure:
        subject = f"model {self._model!r} sequence {info.correlation_id!r}"
        return Failure(message(subject, expected=expected, got=got, remedy=remedy), code)

    def _unknown(self, info: RequestInfo) -> Failure:
        return self._refusal(
            info,
            "INVALID_ARG",
            expected="a sequence whose first request was answered",
            got="a request without the flag START, and no such sequence",
            remedy="begin it again, with sequence_start; one that is idle, or longest idle of more than "
            f"{self._max_sequences}, is dropped",
        )

    def _full(self, info: RequestInfo) -> Failure:
        return self._refusal(
            info,
            "UNAVAILABLE",
            expected=f"at most {self._max_sequences} sequences at a time",
            got="one more",
            remedy="begin it when another one has ended, or raise max_sequences",
        )

    def _second(self, info: RequestInfo) -> Failure:
        """Return the failure of a second request of a sequence in one call, which no server sends."""
        return self._refusal(
            info,
            "INVALID_ARG",
            expected="one request of a sequence at a time",
            got="another one in the same call",
            remedy="wait for the answer before the next request",
        )


def _is_filler(info: RequestInfo) -> bool:
    """Whether the server has made up the request to fill a free slot of a batch."""
    return info.correlation_id in _NOBODY and not info.requested_outputs
