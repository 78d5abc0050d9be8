"""Requests that belong to sequences: which of them are let in, and what is kept between them."""

from __future__ import annotations

import functools
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
from kindaware._hooks.binding import Hooks

RESCHEDULED = Failure("rescheduled", "INTERNAL")
"""What became of a request that is to come again. No client sees it."""

FILLER = Failure("nobody", "INTERNAL")
"""What became of a request that no client sent."""

_NOBODY = (0, "")
"""The correlation id of a request that no client sent. The server asks clients for another one."""

_IDLE_TIMES = 2
"""The server looks for idle sequences from time to time; it must have given one up before its state goes."""

Answer = Callable[[Sequence[Request | Failure]], Sequence[Result]]


class Sequences:
    """The sequences of one instance. The server sends all requests of a sequence to the same one.

    Args:
        spec: the configuration's part.
        model: the model's name, for messages.
        max_sequences: how many are kept.
        clock: gives seconds.

    Attributes:
        state: what the model keeps for them.
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
        self._last_used: dict[CorrelationId, float] = {}
        self._again: set[CorrelationId] = set()
        self._waited = 0.0
        self._left_at = clock()

    @classmethod
    def of_instance(cls, spec: ModelSpec, settings: Settings) -> Sequences | None:
        """Make those of an instance; None where its requests belong to no sequences."""
        return None if spec.sequences is None else cls(spec.sequences, spec.name, settings.max_sequences)

    def run(self, arrivals: Sequence[Request | Failure], answer: Answer) -> list[Result]:
        """Answer the requests of one call.

        With the direct strategy the server fills free places of a batch with requests that no client sent,
        whose inputs hold anything. They get an answer without outputs, and no hook sees them.
        Source: measured on tritonserver 2.51.0.

        Args:
            arrivals: the requests as read.
            answer: gives the results of those that are let in, and the failures of the others.

        Returns:
            One result per arrival; `RESCHEDULED` for a request that the model wants again, `FILLER` for
            one that no client sent.
        """
        self._waited += self._clock() - self._left_at
        infos = [one.info if isinstance(one, Request) else None for one in arrivals]
        results: list[Result] = [FILLER] * len(arrivals)
        places = [place for place, info in enumerate(infos) if info is None or not _is_filler(info)]
        self._forget_idle({info.correlation_id for info in infos if info is not None})
        admitted = self._admit([arrivals[place] for place in places])
        try:
            for place, arrival, result in zip(places, admitted, answer(admitted), strict=True):
                results[place] = self._settle(arrival, result)
        finally:
            self.state.end()
            self._again.clear()
            self._left_at = self._clock()
        return results

    def watch(self, hooks: Hooks) -> Hooks:
        """Give the hooks so that the state has their sequences, where they ask for `requests`."""
        watched: dict[str, Any] = {
            name: self._watched(getattr(hooks, name), begins=name == "forward")
            for name in hooks.with_requests & {"forward", "postprocess"}
        }
        return replace(hooks, **watched)

    def _watched(self, hook: Callable[..., Any], *, begins: bool) -> Callable[..., Any]:
        @functools.wraps(hook)
        def watched(*args: Any, requests: Sequence[RequestInfo], **named: Any) -> Any:
            if begins:
                self._begin(requests)
            outputs = hook(*args, requests=requests, **named)
            self.state.seal()
            return outputs

        return watched

    def _begin(self, requests: Sequence[RequestInfo]) -> None:
        """Start a forward of these requests; an earlier one of the same call has left nothing."""
        batch = [one.correlation_id for one in requests]
        self.state.begin(batch)
        self._again.difference_update(batch)

    def reschedule(self, request: RequestInfo) -> None:
        """Take note that the model wants a request of its batch again.

        Raises:
            RequestError: the request can't come again.
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
        elif request.is_end:  # the server would end the sequence, and the client wait for ever
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

    def _admit(self, arrivals: Sequence[Request | Failure]) -> list[Request | Failure]:
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
            if sequence in _NOBODY:  # of the server's own warm-up: a sequence of one request
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
            self._forget(sequence)  # the server, too, ends a sequence whose id begins another
            is_room = info.is_end or len(self._last_used) + num_new < self._max_sequences
            num_new += is_room and not info.is_end
            admitted.append(request if is_room else self._full(info))
        return admitted

    def _note_unread(self, info: RequestInfo | None) -> None:
        """Forget the sequence of a request that was not read, if the server has begun or ended it."""
        if info is not None and (info.is_start or info.is_end or self._spec.is_iterative):
            self._forget(info.correlation_id)

    def _settle(self, arrival: Request | Failure, result: Result) -> Result:
        """Keep what the model has changed, or end the sequence; a request that fails changes nothing."""
        if isinstance(arrival, Failure) or arrival.info is None:
            return result
        sequence = arrival.info.correlation_id
        is_failed = isinstance(result, Failure)
        is_again = not is_failed and sequence in self._again
        if arrival.info.is_end or (self._spec.is_iterative and not is_again):
            self._forget(sequence)
        elif not is_failed:
            self._last_used[sequence] = self._waited
            value = self.state.take(sequence)
            self.state.kept.pop(sequence, None)
            if value is not ABSENT:
                self.state.kept[sequence] = value
        return RESCHEDULED if is_again else result

    def _forget_idle(self, called: set[CorrelationId]) -> None:
        """Drop sequences that the server has given up.

        Their time counts while the instance waits, and stands still while it works: a request may wait in the
        server's queue meanwhile.
        """
        limit = self._waited - _IDLE_TIMES * self._spec.idle_seconds
        for sequence in [one for one, used in self._last_used.items() if used < limit]:
            if sequence not in called:
                self._forget(sequence)

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
            remedy="begin it again, with sequence_start",
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
        """Refuse what the server never does: two requests of a sequence at once."""
        return self._refusal(
            info,
            "INVALID_ARG",
            expected="one request of a sequence at a time",
            got="another one in the same call",
            remedy="wait for the answer before the next request",
        )


def _is_filler(info: RequestInfo) -> bool:
    """Whether the server has made the request up, to fill a free place of a batch."""
    return info.correlation_id in _NOBODY and not info.requested_outputs
