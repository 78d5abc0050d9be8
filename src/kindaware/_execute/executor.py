"""One call of `execute` of a model that is not decoupled: from its requests to their responses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from kindaware._batch.counters import Stopwatch
from kindaware._batch.pipeline import Pipeline
from kindaware._batch.plan import Plan
from kindaware._batch.request import Request
from kindaware._batch.results import Failure, Result
from kindaware._batch.stages import READ, RESPOND, Stage
from kindaware._execute.fast_path import FastPath
from kindaware._execute.sequences import FILLER, RESCHEDULED, Sequences
from kindaware._triton.adapter import TritonAdapter

ASK_SECONDS = 70e-6
"""What it costs to ask whether one request was cancelled: a call to the server's process. Measured on
tritonserver 2.51.0, two shared cores."""

WORTH = 100
"""With `cancellation` `auto`, a request must take this many times as long as asking for it."""


class Executor:
    """Executes the calls of an instance.

    Args:
        plan: of the instance.
        adapter: reads requests and builds responses.
        pipeline: between the two.
        sequences: those of the instance; None where its requests belong to none.

    Attributes:
        fast_path: for plain models on the CPU; None for all others.
    """

    def __init__(
        self, plan: Plan, adapter: TritonAdapter, pipeline: Pipeline, sequences: Sequences | None
    ) -> None:
        self._adapter = adapter
        self._pipeline = pipeline
        self._sequences = sequences
        self._runner = pipeline.runner
        self._health = pipeline.runner.device.health
        self._counters = pipeline.runner.counters
        self._may_have_parameters = plan.reads_request_info
        self._asks_from = asks_from(plan.settings.cancellation)
        is_plain = FastPath.suits(plan, is_host=pipeline.runner.device.runtime.is_host)
        self.fast_path = FastPath(plan, adapter, pipeline.runner) if is_plain else None

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer one call: one response per request, in order; None for one that is rescheduled."""
        try:
            if self._health.fault is None:
                asks = self._counters.seconds_per_request >= self._asks_from
                error = None
                if self.fast_path is not None and not asks:
                    answered = self.fast_path.answer(requests)
                    if isinstance(answered, list):
                        return answered
                    error = answered
                return self._execute(requests, asks, error)
        except Exception as error:  # of the device, while a tensor on it was read or handed over
            if not self._health.note_fault(error):
                raise
        failure = Failure(self._health.unavailable(), "UNAVAILABLE")
        self._counters.add_errors([failure.code] * len(requests))
        return self._adapter.respond(requests, [failure] * len(requests))

    def stages(self) -> Iterator[Stage]:
        """List what a call goes through, on the fast path and otherwise."""
        yield Stage(READ, self._adapter, "read")
        yield from self._pipeline.stages()
        yield Stage(RESPOND, self._adapter, "respond")
        if self.fast_path is not None:
            yield from self.fast_path.stages()

    def _execute(self, requests: Sequence[Any], asks: bool, error: Exception | None) -> list[Any]:
        stopwatch = Stopwatch(self._counters)
        arrivals = self._adapter.read(requests, asks_for_cancelled=asks)
        stopwatch.lap("read")
        if self._sequences is None:
            results = self._pipeline.run(arrivals, error)
        else:
            results = self._sequences.run(arrivals, self._pipeline.run)
        stopwatch.restart()
        responses = self._respond(requests, arrivals, results)
        stopwatch.lap("respond")
        return responses

    def _respond(
        self, requests: Sequence[Any], arrivals: Sequence[Request | Failure], results: Sequence[Result]
    ) -> list[Any]:
        responses = self._adapter.respond(requests, results)
        if self._may_have_parameters:
            self._counters.add_errors(self._adapter.add_parameters(responses, results, arrivals, requests))
        if self._sequences is not None:
            self._release(requests, results, responses)
        return responses

    def _release(self, requests: Sequence[Any], results: Sequence[Result], responses: list[Any]) -> None:
        """Put None in the place of responses to rescheduled requests, and tell the server to reschedule them.

        Requests that no client sent get a response without outputs.
        """
        for place, result in enumerate(results):
            if result is FILLER:
                responses[place] = self._adapter.answer({}, ())
            elif result is RESCHEDULED:
                responses[place] = None
                self._adapter.reschedule(requests[place])


def asks_from(setting: str) -> float:
    """Return from how many seconds per request on the server is asked which requests were cancelled.

    Args:
        setting: `on` to ask always, `off` never, `auto` where the batch before has taken 100 times 70 us or
            more for each of its requests. So `auto` does not ask before the first answer.
    """
    return {"on": 0.0, "off": math.inf, "auto": WORTH * ASK_SECONDS}[setting]
