"""`ItemSender`: sends the items of streams beside the step that computes the next."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kindaware._batch.counters import Counters, Stopwatch
from kindaware._batch.plan import Plan
from kindaware._batch.results import Failure, Tensors, failure_of, log_failure, refusal_of
from kindaware._errors import RequestError
from kindaware._execute.open_stream import OpenStream
from kindaware._execute.work_thread import WorkThread
from kindaware._hooks.blame import report
from kindaware._triton.response_sender import ResponseSender

NUM_AHEAD = 2
"""Steps whose items may wait to be sent: one that is being sent, and one that the device computes."""

CLOSING_SECONDS = 5.0


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Delivery:
    """What one stream sends after a step.

    Attributes:
        stream: the stream.
        outputs: its item, in host memory of its own or on the device; None for none.
        parameters: those of the response; None for none.
        is_last: whether the stream ends with it.
        failure: the error that it ends with; None for none.
    """

    stream: OpenStream
    outputs: Tensors | None = None
    parameters: Mapping[str, Any] | None = None
    is_last: bool = False
    failure: Failure | None = None


class ItemSender:
    """Sends the items of all streams of an instance, and their ends, on a thread of its own.

    Nothing else uses the senders of the requests that it was given, so that none is asked, or sent to, after
    its FINAL. The order of a stream's items is kept.

    Args:
        plan: plan of the instance.
        counters: counters of the instance.
    """

    def __init__(self, plan: Plan, counters: Counters) -> None:
        self._model = plan.spec.name
        self._logger = plan.logger
        self._counters = counters
        self._thread = WorkThread("kindaware-send", plan.logger, limit=NUM_AHEAD)

    def send(self, deliveries: Sequence[Delivery]) -> None:
        """Send what several streams send after a step.

        Sync:
            Until what was handed over before the last two calls is sent.
        """
        if deliveries:
            self._thread.call(partial(self._send_all, deliveries))

    def refuse(self, responses: ResponseSender, failure: Failure) -> None:
        """Answer a request that becomes no stream."""
        self._thread.call(partial(self._end, responses, failure))

    def watch(self, streams: Sequence[OpenStream]) -> None:
        """Ask the server which of these clients have cancelled; the streams are marked then."""
        self._thread.call(partial(self._watch, streams))

    def close(self) -> None:
        """Send what is left, and end the thread. Sync: until it is sent, for at most 5 s."""
        self._thread.end(CLOSING_SECONDS)

    def _send_all(self, deliveries: Sequence[Delivery]) -> None:
        stopwatch = Stopwatch(self._counters)
        for one in deliveries:
            if one.outputs is not None and one.stream.unsent is None and not one.stream.responses.is_ended:
                self._send(one.stream, one.outputs, one.parameters)
            if one.is_last:
                failure = one.stream.unsent or one.failure
                self._end(one.stream.responses, failure)
                if failure is None:
                    self._counters.add_batch(1, one.stream.request.rows or 1)
        stopwatch.lap("respond")

    def _send(self, stream: OpenStream, outputs: Tensors, parameters: Mapping[str, Any] | None) -> None:
        try:
            stream.responses.send(outputs, parameters)
        except RequestError as error:  # of parameters that the server doesn't support
            stream.unsent = refusal_of(error)
        except BaseException as error:
            log_failure(self._logger, self._model, [stream.request.id], report(error))
            stream.unsent = failure_of(error, self._model, stream.request.id, "the response")
        else:
            now = time.monotonic()
            self._counters.add_item(now - (stream.last_sent or stream.arrived), is_first=not stream.last_sent)
            stream.last_sent = now

    def _end(self, responses: ResponseSender, failure: Failure | None) -> None:
        if failure is not None:
            self._counters.add_errors([failure.code])
        try:
            responses.end(failure)
        except Exception as error:
            self._logger.error("model %r: FINAL not sent: %s", self._model, report(error))

    def _watch(self, streams: Sequence[OpenStream]) -> None:
        for stream in streams:
            stream.is_gone = stream.responses.is_cancelled()
