"""One call of `execute` of a model that isn't decoupled: requests are read, run and responded to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
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
from kindaware._triton.request import readable_id

ASK_SECONDS = 70e-6
"""Cost of asking whether a request was cancelled, which is a call to the server's process. Measured on
tritonserver 2.51.0, two shared cores."""

WORTH = 100
"""With `cancellation` `auto`, how many times as long as asking a request must take to be asked for."""


class Executor:
    """Executes the calls of an instance.

    Args:
        plan: plan of the instance.
        adapter: reads requests and builds responses.
        pipeline: runs the requests that were read.
        sequences: the sequences of the instance; None if requests belong to none.

    Attributes:
        fast_path: shortcut for plain models on the CPU; None for all other models.
        on_answer: called with each request that is answered beside `execute`, and its response.
    """

    def __init__(
        self, plan: Plan, adapter: TritonAdapter, pipeline: Pipeline, sequences: Sequences | None
    ) -> None:
        self.on_answer: Callable[[Any, Any], None] = lambda request, response: None
        self._reader = adapter.requests
        self._responses = adapter.responses
        self._pipeline = pipeline
        self._sequences = sequences
        self._runner = pipeline.runner
        self._reporter = plan.reporter
        self._health = pipeline.runner.device.health
        self._counters = pipeline.runner.counters
        self._may_have_parameters = plan.reads_request_info
        self._asks_from = asks_from(plan.settings.cancellation)
        is_plain = FastPath.suits(plan, is_host=pipeline.runner.device.runtime.is_host)
        self.fast_path = FastPath(plan, adapter, pipeline.runner) if is_plain else None

    def execute(self, requests: Sequence[Any]) -> list[Any] | None:
        """Answer one call of `execute`.

        Args:
            requests: the requests that Triton passes.

        Returns:
            One response per request, in order; None in the place of a rescheduled request. None in place of
            all, if their responses are sent beside the next call.

        Sync:
            Host with stream, once per batch.
        """
        try:
            if self._health.fault is None:
                asks = self._counters.seconds_per_request >= self._asks_from
                error = None
                # The fast path doesn't ask for cancelled requests. What forward raised there is passed on, so
                # that the pipeline starts with halving and doesn't run the same batch again.
                if self.fast_path is not None and not asks:
                    answered = self.fast_path.answer(requests)
                    if isinstance(answered, list):
                        return answered
                    error = answered
                return self._execute(requests, asks, error)
        except Exception as error:
            # A device fault shows wherever a tensor on it is read, also where a request is read or answered.
            # Of what is raised, Triton would show the client all of the traceback.
            if not self._health.note_fault(error):
                ids = list(map(readable_id, requests))
                return self._refuse(requests, self._reporter.fail(error, ids, "execute"))
        failure = Failure(self._health.unavailable(), "UNAVAILABLE")
        return self._refuse(requests, [failure] * len(requests))

    def _refuse(self, requests: Sequence[Any], failures: Sequence[Failure]) -> list[Any]:
        self._counters.add_errors(one.code for one in failures)
        return self._responses.respond(requests, failures)

    def close(self) -> None:
        """Send what is still to be sent. Sync: until it is; here, `execute` has returned all of it."""

    def stages(self) -> Iterator[Stage]:
        """Iterate over the stages of a call, those of the fast path included."""
        yield Stage(READ, self._reader, "read")
        yield from self._pipeline.stages()
        yield Stage(RESPOND, self._responses, "respond")
        if self.fast_path is not None:
            yield from self.fast_path.stages()

    def _execute(self, requests: Sequence[Any], asks: bool, error: Exception | None) -> list[Any] | None:
        stopwatch = Stopwatch(self._counters)
        arrivals = self._reader.read(requests, asks_for_cancelled=asks)
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
        responses = self._responses.respond(requests, results)
        if self._may_have_parameters:
            self._counters.add_errors(self._responses.add_parameters(responses, results, arrivals, requests))
        if self._sequences is not None:
            self._release(requests, results, responses)
        return responses

    def _release(self, requests: Sequence[Any], results: Sequence[Result], responses: list[Any]) -> None:
        """Replace the responses to rescheduled requests by None, and set Triton's flag on the requests.

        Requests that no client sent get a response without outputs.
        """
        for index, result in enumerate(results):
            if result is FILLER:
                responses[index] = self._responses.answer({}, ())
            elif result is RESCHEDULED:
                responses[index] = None
                self._responses.reschedule(requests[index])


def asks_from(setting: str) -> float:
    """Return the seconds per request from which on the server is asked for cancelled requests.

    Args:
        setting: `on` to always ask, `off` to never ask, `auto` to ask if the previous batch took at least
            100 times 70 us per request. So `auto` never asks before the first answer.
    """
    return {"on": 0.0, "off": math.inf, "auto": WORTH * ASK_SECONDS}[setting]
