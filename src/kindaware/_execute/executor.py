"""From the requests of one call of `execute` to their responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kindaware._batch.counters import Stopwatch
from kindaware._batch.pipeline import Pipeline
from kindaware._batch.results import Failure
from kindaware._batch.runner import BatchRunner
from kindaware._config.model_spec import ModelSpec
from kindaware._config.settings import Settings
from kindaware._execute.cancellation import slow_from
from kindaware._execute.fast_path import FastPath
from kindaware._execute.sequences import Sequences
from kindaware._hooks.binding import Hooks
from kindaware._triton.adapter import TritonAdapter
from kindaware._triton.response_parameters import with_parameters


class Executor:
    """Answers the calls of an instance that is not decoupled.

    Args:
        adapter: reads requests and builds responses.
        spec: the model.
        settings: its settings.
        hooks: the user's part.
        pipeline: what is between the two.
        runner: the pipeline's.
        sequences: those of the instance, where it has any.
        reads_info: responses may have parameters.
    """

    def __init__(
        self,
        adapter: TritonAdapter,
        spec: ModelSpec,
        settings: Settings,
        hooks: Hooks,
        pipeline: Pipeline,
        runner: BatchRunner,
        sequences: Sequences | None,
        *,
        reads_info: bool,
    ) -> None:
        self._adapter = adapter
        self._pipeline = pipeline
        self._runner = runner
        self._sequences = sequences
        self._reads_info = reads_info
        self._slow_from = slow_from(settings.cancellation)
        is_direct = FastPath.suits(spec, settings, hooks, is_host=runner.is_host)
        self.direct = FastPath(adapter, spec, settings, hooks, runner) if is_direct else None

    def respond(self, requests: Sequence[Any]) -> list[Any]:
        """Answer one call: one response per request, in order."""
        runner = self._runner
        try:
            if runner.fault is None:
                asks = runner.counters.seconds_per_request >= self._slow_from
                error = None
                if self.direct is not None and not asks:
                    answered = self.direct.answer(requests)
                    if isinstance(answered, list):
                        return answered
                    error = answered
                return self._respond(requests, asks, error)
        except Exception as error:  # of the device, while a tensor on it was read or handed over
            if not runner.note_fault(error):
                raise
        failure = Failure(runner.unavailable(), "UNAVAILABLE")
        runner.counters.add_errors([failure.code] * len(requests))
        return self._adapter.respond(requests, [failure] * len(requests))

    def _respond(self, requests: Sequence[Any], asks: bool, error: Exception | None) -> list[Any]:
        adapter, sequences = self._adapter, self._sequences
        stopwatch = Stopwatch(self._runner.counters)
        arrivals = adapter.read(requests, asks_for_cancelled=asks)
        stopwatch.lap("gather")
        if sequences is None:
            results = self._pipeline.run(arrivals, error)
        else:
            results = sequences.run(arrivals, self._pipeline.run)
        stopwatch.restart()
        responses = adapter.respond(requests, results)
        if self._reads_info:
            responses = with_parameters(
                responses, results, arrivals, requests, adapter, self._runner.counters
            )
        if sequences is not None:
            responses = sequences.released(responses, results, requests, adapter)
        stopwatch.lap("scatter")
        return responses
