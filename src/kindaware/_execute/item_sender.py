"""`ItemSender`: sends the items of streams beside the step that computes the next."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from kindaware._batch.counters import Counters, Stopwatch
from kindaware._batch.plan import Plan
from kindaware._batch.results import Failure, Tensors, refusal_of
from kindaware._errors import RequestError
from kindaware._execute.open_stream import OpenStream
from kindaware._execute.work_thread import WorkThread
from kindaware._hooks.blame import report
from kindaware._tensors.bytes_arrays import Value
from kindaware._tensors.rows import concat_values, kind_of
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
        num_items: items in the outputs, joined along the first dimension.
    """

    stream: OpenStream
    outputs: Tensors | None = None
    parameters: Mapping[str, Any] | None = None
    is_last: bool = False
    failure: Failure | None = None
    num_items: int = 1


class ItemSender:
    """Sends the items of all streams of an instance, and their ends, on a thread of its own.

    Nothing else uses the senders of the requests that it was given, so that none is asked, or sent to, after
    its FINAL. The order of a stream's items is kept.

    With `items_per_response`, items of a stream that wait while others are sent share a response. No item
    waits for one that is still to be computed: while sending keeps up, each gets a response of its own.

    Args:
        plan: plan of the instance.
        counters: counters of the instance.
    """

    def __init__(self, plan: Plan, counters: Counters) -> None:
        self._model = plan.spec.name
        self._logger = plan.logger
        self._reporter = plan.reporter
        self._counters = counters
        self._counts_items = plan.hooks.step is not None
        self._most = plan.settings.items_per_response
        self._steps: deque[Sequence[Delivery]] = deque()
        self._thread = WorkThread("kindaware-send", plan.logger, limit=max(NUM_AHEAD, self._most))

    def send(self, deliveries: Sequence[Delivery]) -> None:
        """Send what several streams send after a step.

        Sync:
            Until what was handed over before the last two calls is sent, or the last `items_per_response`.
        """
        if deliveries:
            self._steps.append(deliveries)
            self._thread.call(self._send_waiting)

    def refuse(self, responses: ResponseSender, failure: Failure) -> None:
        """Answer a request that becomes no stream."""
        self._thread.call(partial(self._end, responses, failure))

    def watch(self, streams: Sequence[OpenStream]) -> None:
        """Ask the server which of these clients have cancelled; the streams are marked then."""
        self._thread.call(partial(self._watch, streams))

    def close(self) -> None:
        """Send what is left, and end the thread. Sync: until it is sent, for at most 5 s."""
        self._thread.end(CLOSING_SECONDS)

    def _send_waiting(self) -> None:
        """Send what waits, as far as it fits in one response per stream; an earlier call may have sent it."""
        steps = [self._steps.popleft() for _ in range(min(self._most, len(self._steps)))]
        stopwatch = Stopwatch(self._counters)
        for one in steps[0] if len(steps) == 1 else _joined(steps):
            # A hook may return after `close` has ended the streams that it was called for.
            if one.stream.responses.is_ended:
                continue
            if one.outputs is not None and one.stream.unsent is None:
                self._send(one.stream, one.outputs, one.parameters, one.num_items)
            if one.is_last:
                failure = one.stream.unsent or one.failure
                self._end(one.stream.responses, failure)
                if failure is None:
                    self._counters.add_batch(1, one.stream.request.rows or 1)
        stopwatch.lap("respond")

    def _send(
        self,
        stream: OpenStream,
        outputs: Tensors,
        parameters: Mapping[str, Any] | None,
        num_items: int,
    ) -> None:
        try:
            stream.responses.send(outputs, parameters)
        except RequestError as error:  # of parameters that the server doesn't support
            stream.unsent = refusal_of(error)
        except BaseException as error:
            (stream.unsent,) = self._reporter.fail(error, [stream.request.id], "sending the response")
        else:
            if self._counts_items:
                self._count(stream, num_items)

    def _count(self, stream: OpenStream, num_items: int) -> None:
        now = time.monotonic()
        for _ in range(num_items):
            since = stream.last_sent or stream.arrived
            self._counters.add_item(now - since, is_first=not stream.last_sent)
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


def _joined(steps: Iterable[Sequence[Delivery]]) -> Iterator[Delivery]:
    """Yield the deliveries of several steps, in the order of each stream, items joined where they can be."""
    by_stream: dict[OpenStream, list[Delivery]] = {}
    for deliveries in steps:
        for one in deliveries:
            by_stream.setdefault(one.stream, []).append(one)
    for of_stream in by_stream.values():
        run = [of_stream[0]]
        for one in of_stream[1:]:
            if not _fits(one, run[-1]):
                yield _join(run)
                run = []
            run.append(one)
        yield _join(run)


def _fits(one: Delivery, before: Delivery) -> bool:
    """Whether an item can share the response of the one before it; an end without an item always can."""
    if before.is_last:
        return False
    if one.outputs is None:
        return True
    assert before.outputs is not None  # it would be an end
    if (one.parameters or {}) != (before.parameters or {}):
        return False
    pairs = zip(one.outputs.values(), before.outputs.values(), strict=True)
    return all(_are_joinable(value, other) for value, other in pairs)


def _are_joinable(value: Value, other: Value) -> bool:
    """Whether two values can be concatenated on this thread, which has no stream of a device."""
    is_on_host = not isinstance(value, torch.Tensor) or value.device.type == "cpu"
    return is_on_host and kind_of(value) == kind_of(other) and value.shape[1:] == other.shape[1:]


def _join(run: Sequence[Delivery]) -> Delivery:
    """Return deliveries of one stream that fit as one; the last may be its end."""
    items: list[Any] = [one.outputs for one in run if one.outputs is not None]
    outputs = {name: concat_values([one[name] for one in items]) for name in items[0]} if items else None
    last = run[-1]
    return replace(last, outputs=outputs, parameters=run[0].parameters, num_items=len(items))
