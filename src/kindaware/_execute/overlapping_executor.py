"""Calls of `execute` that overlap: one is computed while the next is read and the last is answered."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kindaware._batch.counters import Stopwatch
from kindaware._batch.pipeline import Pipeline
from kindaware._batch.plan import Plan
from kindaware._batch.request import Request
from kindaware._batch.results import Failure, Ledger, Result
from kindaware._batch.stages import RESPOND, Stage
from kindaware._device.staging import Flight, OverlappingStaging
from kindaware._execute.executor import Executor
from kindaware._execute.work_thread import WorkThread
from kindaware._hooks.blame import report
from kindaware._triton.adapter import TritonAdapter
from kindaware._triton.response_sender import ResponseSender

CLOSING_SECONDS = 60.0
"""How long the end of an instance waits for answers: a forward may take long, but not for ever."""

SWITCH_SECONDS = 0.001
"""The most that a thread waits for another's Python, as `sys.setswitchinterval` counts.

Whoever waits for the device or for a copy gets the interpreter back only after this time if the other thread
computes. With the 5 ms that Python has, two threads that take turns spend most of a batch waiting.
"""


@dataclass(slots=True, eq=False, repr=False)
class _Call:
    """A call whose work is queued on the device, and which has not been answered.

    Attributes:
        requests: its requests, as Triton passed them.
        arrivals: the same, as read.
        senders: sends the response to each.
        ledger: its outputs, which are there when the flight has landed, and its failures.
        flight: what it holds on the device and of the host's buffers.
        has_landed: set when the device has done its work.
        seconds: of the thread that answers, by stage.
        errors: codes of the responses that are errors.
    """

    requests: Sequence[Any]
    arrivals: Sequence[Request | Failure]
    senders: Sequence[ResponseSender]
    ledger: Ledger
    flight: Flight
    has_landed: threading.Event = field(default_factory=threading.Event)
    seconds: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


class OverlappingExecutor(Executor):
    """Executes the calls of a GPU instance such that consecutive ones overlap.

    All hooks run in `execute`, one call after the other, as without this. But `execute` doesn't wait for the
    device: it returns when the device has begun with its call, so that the server passes the next one, which
    is read and copied in meanwhile. Another thread waits for the device, and answers through Triton's
    response senders, in the order of the calls.

    At most three calls are in progress: one that is answered, one on the device, and one that is copied in
    behind it. So a call is formed no earlier than the device needs it, and late requests join its batch.

    The interval at which Python's threads take turns becomes `SWITCH_SECONDS`, for the whole process.

    Only this thread of Triton's counts: what the other has measured is added up when its call is over.

    Args:
        plan: plan of an instance on a GPU, of a model without sequences.
        adapter: reads requests and builds responses.
        pipeline: runs the requests that were read, with a staging that overlaps.
        staging: that staging.
    """

    def __init__(
        self, plan: Plan, adapter: TritonAdapter, pipeline: Pipeline, staging: OverlappingStaging
    ) -> None:
        super().__init__(plan, adapter, pipeline, None)
        self._model = plan.spec.name
        self._logger = plan.logger
        self._staging = staging
        self._calls: deque[_Call] = deque()
        self._thread = WorkThread("kindaware-answer", plan.logger)
        pipeline.make_room = self._make_room
        sys.setswitchinterval(min(SWITCH_SECONDS, sys.getswitchinterval()))

    def execute(self, requests: Sequence[Any]) -> list[Any] | None:
        """Queue one call of `execute`; see `Executor.execute`.

        Sync:
            Until the device has done the work of the call before. Host with the device's work for this call,
            if an input lies in Triton's GPU memory.
        """
        self._collect()
        answered = super().execute(requests)
        if len(self._calls) > 1:
            self._calls[-2].has_landed.wait()
        return answered

    def close(self) -> None:
        """Answer what is left, and end the thread. Sync: until it is answered, for at most 60 s."""
        self._thread.end(CLOSING_SECONDS)
        self._collect()

    def stages(self) -> Iterator[Stage]:
        """Iterate over the stages of a call; `respond` includes sending."""
        yield from (one for one in super().stages() if one.name != RESPOND)
        yield Stage(RESPOND, self, "_send")

    def _execute(self, requests: Sequence[Any], asks: bool, error: Exception | None) -> None:
        stopwatch = Stopwatch(self._counters)
        self._staging.begin_flight()
        arrivals = self._reader.read(requests, asks_for_cancelled=asks)
        stopwatch.lap("read")
        ledger = self._pipeline.queue(arrivals, error)
        senders = [ResponseSender(self._responses, request) for request in requests]
        flight = self._staging.end_flight()
        # Triton reclaims this memory when `execute` returns.
        if any(isinstance(one, Request) and one.is_on_device for one in arrivals):
            flight.land()
        call = _Call(requests, arrivals, senders, ledger, flight)
        self._calls.append(call)
        # From here on the call is the other thread's: an error here would answer its requests twice.
        self._thread.call(partial(self._answer, call))

    def _make_room(self) -> bool:
        """Wait until no earlier batch holds memory of the device; return whether one did."""
        try:
            return self._staging.make_room()
        except Exception:  # of an earlier call, which fails with it; a lost device shows in what comes next
            return False

    def _collect(self) -> None:
        """Count the calls that are over."""
        while self._calls and self._calls[0].flight.is_answered:
            call = self._calls.popleft()
            call.flight.tell()
            for stage, seconds in call.seconds.items():
                self._counters.seconds[stage] += seconds
            self._counters.add_errors(call.errors)

    def _answer(self, call: _Call) -> None:
        """Wait for the device, and answer each request of a call, whatever happens."""
        try:
            results = self._results(call)
            began = time.perf_counter()
            self._send(call, self._respond_late(call, results))
            call.seconds["respond"] = time.perf_counter() - began
        finally:
            call.flight.is_answered = True

    def _results(self, call: _Call) -> Sequence[Result]:
        began = time.perf_counter()
        results: Sequence[Result]
        try:
            self._land(call)
            results = self._pipeline.settle(call.ledger)
        except BaseException as error:
            results = self._failures(call, error)
        call.seconds["copy_out"] = time.perf_counter() - began
        call.errors += [one.code for one in results if isinstance(one, Failure)]
        return results

    def _land(self, call: _Call) -> None:
        """Wait for the device; if it has failed, none of the call's outputs have come."""
        try:
            call.flight.land()
        except Exception as error:
            if not self._health.note_fault(error):
                raise
            call.ledger.forget_answers()
        finally:
            call.has_landed.set()

    def _failures(self, call: _Call, error: BaseException) -> list[Failure]:
        """Return how a call fails that can't be split into results; the traceback is logged."""
        if self._health.note_fault(error):
            return [Failure(self._health.unavailable(), "UNAVAILABLE")] * len(call.senders)
        ids = [one.id if isinstance(one, Request) else "" for one in call.arrivals]
        return self._reporter.fail(error, ids, "forward")

    def _respond_late(self, call: _Call, results: Sequence[Result]) -> list[Any]:
        try:
            responses = self._responses.respond(call.senders, results)
            if self._may_have_parameters:
                call.errors += self._responses.add_parameters(responses, results, call.arrivals, call.senders)
        except BaseException as error:  # of outputs that stay on a device, which has failed
            failures = self._failures(call, error)
            call.errors[:] = [one.code for one in failures]
            responses = self._responses.respond(call.senders, failures)
        return responses

    def _send(self, call: _Call, responses: Sequence[Any]) -> None:
        for request, sender, response in zip(call.requests, call.senders, responses, strict=True):
            try:
                sender.answer(response)
            except Exception as error:
                # Nothing more can be sent to it. Source: python_backend `response_sender.cc`, which counts a
                # response before it is copied.
                self._logger.error(
                    "model %r: response not sent, and its client waits: %s", self._model, report(error)
                )
            self.on_answer(request, response)
