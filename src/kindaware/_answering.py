"""From the requests of one call of `execute` to their responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kindaware._bridge import Bridge
from kindaware._cancellation import slow_from
from kindaware._counts import Stopwatch
from kindaware._device_pass import DevicePass
from kindaware._direct import DirectPath
from kindaware._hooks import Hooks
from kindaware._outcomes import Failure
from kindaware._pipeline import Pipeline
from kindaware._response_parameters import with_parameters
from kindaware._sequences import Sequences
from kindaware._settings import Settings
from kindaware._spec import ModelSpec


class Answering:
    """Answers the calls of an instance that is not decoupled.

    Args:
        bridge: reads requests and builds responses.
        spec: the model.
        settings: its settings.
        hooks: the user's part.
        pipeline: what is between the two.
        device_pass: the pipeline's.
        sequences: those of the instance, where it has any.
        reads_info: responses may have parameters.
    """

    def __init__(
        self,
        bridge: Bridge,
        spec: ModelSpec,
        settings: Settings,
        hooks: Hooks,
        pipeline: Pipeline,
        device_pass: DevicePass,
        sequences: Sequences | None,
        *,
        reads_info: bool,
    ) -> None:
        self._bridge = bridge
        self._pipeline = pipeline
        self._device_pass = device_pass
        self._sequences = sequences
        self._reads_info = reads_info
        self._slow_from = slow_from(settings.cancellation)
        is_direct = DirectPath.suits(spec, settings, hooks, is_host=device_pass.is_host)
        self.direct = DirectPath(bridge, spec, settings, hooks, device_pass) if is_direct else None

    def respond(self, requests: Sequence[Any]) -> list[Any]:
        """Answer one call: one response per request, in order."""
        device_pass = self._device_pass
        try:
            if device_pass.fault is None:
                asks = device_pass.counts.seconds_per_request >= self._slow_from
                error = None
                if self.direct is not None and not asks:
                    answered = self.direct.answer(requests)
                    if isinstance(answered, list):
                        return answered
                    error = answered
                return self._respond(requests, asks, error)
        except Exception as error:  # of the device, while a tensor on it was read or handed over
            if not device_pass.note_fault(error):
                raise
        failure = Failure(device_pass.unavailable(), "UNAVAILABLE")
        device_pass.counts.add_errors([failure.code] * len(requests))
        return self._bridge.respond(requests, [failure] * len(requests))

    def _respond(self, requests: Sequence[Any], asks: bool, error: Exception | None) -> list[Any]:
        bridge, sequences = self._bridge, self._sequences
        stopwatch = Stopwatch(self._device_pass.counts)
        arrivals = bridge.read(requests, asks_for_cancelled=asks)
        stopwatch.lap("gather")
        if sequences is None:
            outcomes = self._pipeline.run(arrivals, error)
        else:
            outcomes = sequences.run(arrivals, self._pipeline.run)
        stopwatch.restart()
        responses = bridge.respond(requests, outcomes)
        if self._reads_info:
            responses = with_parameters(
                responses, outcomes, arrivals, requests, bridge, self._device_pass.counts
            )
        if sequences is not None:
            responses = sequences.released(responses, outcomes, requests, bridge)
        stopwatch.lap("scatter")
        return responses
