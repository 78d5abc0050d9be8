"""The streams that begin between two steps: one by one, or together where the class has `begin_batch`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from kindaware._batch.plan import Plan
from kindaware._batch.request import Request
from kindaware._device.runtime import is_out_of_memory
from kindaware._execute.open_stream import OpenStream
from kindaware._execute.step_isolation import StepIsolation, Stepped, Take
from kindaware._execute.step_runner import Placed, StepRunner

Result = TypeVar("Result")


class Begins:
    """Begins waiting streams.

    Args:
        plan: plan of the instance.
        runner: runs the hooks.
    """

    def __init__(self, plan: Plan, runner: StepRunner) -> None:
        self._runner = runner
        self._health = runner.device.health
        self._begins_together = plan.hooks.begin_batch is not None
        self._placed: dict[OpenStream, Placed] = {}
        self._isolation = StepIsolation(plan, runner, hook="begin_batch", call=self._begin_placed)

    def run(self, streams: Sequence[OpenStream], take: Take, *, may_wait: bool) -> Stepped:
        """Begin streams.

        What a hook raises for one request alone fails that one. Of requests that begin together, those that
        `begin_batch` names fail, and the others begin again; if it names none, it is looked for by halving,
        as for a step.

        Args:
            streams: those that wait, oldest first.
            take: called with what the hook returned for each of some streams, before it runs for others
                together.
            may_wait: whether a stream for which there is no memory may wait until others have ended; those
                that begin here are such others too.

        Returns:
            The streams that fail, and those that wait on.
        """
        if not self._begins_together:
            stepped = Stepped()
            take(list(self._each(streams, self._runner.begin, stepped, may_wait=may_wait)))
            return stepped
        stepped = Stepped()
        self._placed = dict(self._each(streams, self._runner.place, stepped, may_wait=may_wait))
        if self._placed:
            begun = self._isolation.run(list(self._placed), take)
            num_left = len(begun.aside) + sum(len(failed) for _, failed in begun.failed)
            may_wait |= num_left < len(self._placed)  # the others have begun
            stepped.failed += begun.failed
            stepped.aside += begun.aside
        self._placed = {}
        if may_wait:
            self._let_wait(stepped)
        return stepped

    def _each(
        self,
        streams: Sequence[OpenStream],
        function: Callable[[Request], Result],
        stepped: Stepped,
        *,
        may_wait: bool,
    ) -> Iterator[tuple[OpenStream, Result]]:
        """Iterate over what a function returns for each request, until there is no memory for one.

        Args:
            streams: the streams of the requests.
            function: called with each request.
            stepped: gets the streams for which the function raises, and those that wait on.
            may_wait: whether the first may wait.
        """
        for place, stream in enumerate(streams):
            try:
                result = function(stream.request)
            except BaseException as raised:
                error = self._health.caught(raised)
                if is_out_of_memory(error) and may_wait:
                    stepped.aside += streams[place:]
                    return
                stepped.failed.append((error, [stream]))
            else:
                may_wait = True
                yield stream, result

    def _begin_placed(self, streams: Sequence[OpenStream]) -> list[Any]:
        return self._runner.begin_together([self._placed[one] for one in streams])

    def _let_wait(self, stepped: Stepped) -> None:
        """Have streams wait that failed alone since memory ran out."""
        failed, stepped.failed = stepped.failed, []
        for error, streams in failed:
            if is_out_of_memory(error):
                stepped.aside += streams
            else:
                stepped.failed.append((error, streams))
