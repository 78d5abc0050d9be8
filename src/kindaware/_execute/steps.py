"""Requests to a decoupled model with `begin` and `step`: one step over all open streams after the other.

request -> waits for a place -> preprocess -> begin -> its state -> step with all others -> item
-> postprocess -> checked -> host -> response, while the next step runs; and so on until the stream ends
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from kindaware._batch.plan import Plan
from kindaware._batch.request import Request
from kindaware._batch.results import Failure, Tensors
from kindaware._batch.stages import END, FAIL, Stage
from kindaware._errors import RequestError
from kindaware._execute.begins import Begins
from kindaware._execute.item_sender import Delivery, ItemSender
from kindaware._execute.open_stream import OpenStream
from kindaware._execute.step_isolation import StepIsolation
from kindaware._execute.step_runner import StepRunner
from kindaware._execute.stream_arrivals import StreamArrivals
from kindaware._execute.stream_failures import StreamFailures
from kindaware._execute.work_thread import WorkThread
from kindaware._hooks.blame import report
from kindaware._hooks.graphed import Graphed
from kindaware._hooks.step_results import Next, outcome_of
from kindaware._triton.adapter import TritonAdapter

WATCH_SECONDS = 0.1
"""Interval at which the server is asked which clients have gone; 64 streams take a thirtieth of a core."""

GROWTH_STEPS = 16
"""Steps without an error, after memory ran out, until one more stream is tried."""

_CLOSING_SECONDS = 5.0


class Steps:
    """Answers requests with the hooks `begin` and `step`.

    All hooks run on one thread, in rounds: clients that have gone leave, waiting requests begin, and all open
    streams are stepped once. The items are sent by another thread, while the next round runs.

    At most `max_streams` streams are open, and `max_begins_per_step` requests wait here, so that a place that
    becomes free is taken by the next round. `execute` returns at once as long as there is room for its
    requests, and waits otherwise, so that further requests stay in the server's queue.

    Args:
        plan: plan of the instance.
        runner: runs the hooks on the device.

    Attributes:
        arrivals: reads the requests.
        after_round: called after each round, and at least once a second, by the thread that runs them.
    """

    def __init__(self, plan: Plan, runner: StepRunner) -> None:
        settings = plan.settings
        self.after_round: Callable[[], None] = lambda: None
        self._model = plan.spec.name
        self._logger = plan.logger
        self._reporter = plan.reporter
        self._max_bytes = settings.max_stream_bytes
        self._max_begins = settings.max_begins_per_step
        self._drain_seconds = settings.drain_seconds
        self._runner = runner
        self._counters = runner.counters
        self._health = runner.device.health
        self._failures = StreamFailures(plan, self._health)
        self._begins = Begins(plan, runner)
        self._isolation = StepIsolation(plan, runner)
        self.arrivals = StreamArrivals(plan, self._health, runner.counters, outlives_execute=True)
        self._places = threading.Semaphore(settings.max_streams + self._max_begins)
        self._most = self._limit = settings.max_streams
        self._num_good_steps = 0
        # Oldest first in each; those set aside have begun, and are older than those that wait.
        self._open: list[OpenStream] = []
        self._aside: deque[OpenStream] = deque()
        self._waiting: deque[OpenStream] = deque()
        self._watch_due = 0.0
        self._ends_at: float | None = None
        self._is_drained = threading.Event()
        self._sender = ItemSender(plan, runner.counters)
        self._thread = WorkThread("kindaware-step", plan.logger, work=self._round)

    def serve(self, adapter: TritonAdapter, requests: Sequence[Any]) -> None:
        """Take in the requests of one call of `execute`.

        Args:
            adapter: reads requests and builds responses.
            requests: the requests that Triton passes.

        Sync:
            Until there is room for all. Host with stream, if an input lies in Triton's GPU memory.
        """
        for arrival, responses in self.arrivals.read(adapter, requests):
            kept = self._kept(arrival)
            if isinstance(kept, Failure):
                self._sender.refuse(responses, kept)
                continue
            self._places.acquire()
            self._thread.call(partial(self._waiting.append, OpenStream(kept, responses)))

    def warm_up(self, request: Request, num_streams: int) -> Request:
        """Begin so many streams with a warm-up request, and step them once together; nothing is sent.

        Returns:
            The request.

        Raises:
            Exception: what a hook raised.

        Sync:
            Host with stream.
        """
        self._thread.run(partial(self._runner.warm_up, request, num_streams))
        return request

    def record_graphs(self, expected: Sequence[Graphed]) -> list[int]:
        """Capture CUDA graphs of what the steps of the warm-up have called; see `StepGraphs.record`.

        Args:
            expected: the methods that the class marks.

        Returns:
            The numbers of rows for which there is a graph.

        Sync:
            Host with device.
        """
        return self._thread.run(partial(self._runner.graphs.record, expected))

    def end(self) -> None:
        """End the streams that are open with `UNAVAILABLE`, between two steps: the server doesn't wait."""
        self._thread.call(self._end_now)

    def stages(self) -> Iterator[Stage]:
        """Iterate over the stages of a stream, those of a step included."""
        yield from self._runner.stages()
        if self._runner.has_end:
            yield Stage(END, self, "_close", lambda stream: [stream.request])
        yield Stage(FAIL, self, "_fail", lambda streams, *_: [one.request for one in streams])

    def close(self) -> None:
        """Let streams end for `drain_seconds`, then end those that are left with `UNAVAILABLE`.

        Sync:
            Until all have ended; for at most 10 s more than that if a hook doesn't return.
        """
        self._thread.call(self._drain)
        if not self._is_drained.wait(self._drain_seconds + _CLOSING_SECONDS):
            # A hook doesn't return. Its streams get their end all the same; what it computes is not sent.
            left = list(self._streams())
            self._sender.send(
                [Delivery(one, is_last=True, failure=self._failures.unloaded(one.request.id)) for one in left]
            )
        self._thread.end(0.1 * _CLOSING_SECONDS)
        self._sender.close()

    def _end_now(self) -> None:
        self._ends_at = time.monotonic()

    def _drain(self) -> None:
        self._ends_at = time.monotonic() + self._drain_seconds

    def _kept(self, arrival: Request | Failure) -> Request | Failure:
        """Return the request in memory that outlives `execute`; why that fails if it does."""
        if isinstance(arrival, Failure):
            return arrival
        try:
            return self._runner.keep(arrival)
        except Exception as error:
            return self._failures_of([arrival.id], self._health.caught(error), "begin")[0]

    def _streams(self) -> list[OpenStream]:
        return [*self._open, *self._aside, *self._waiting]

    def _round(self) -> bool:
        """Run one round; return whether there are streams for another."""
        try:
            self._leave()
            self._begin()
            if self._open:
                self._step()
        except BaseException as error:  # of the library's own: no client may wait for ever
            self._fail(self._streams(), self._health.caught(error), "step")
        left = self._streams()
        self._counters.open_streams = len(left) - len(self._waiting)
        self._counters.waiting_streams = len(self._waiting)
        if self._ends_at is not None and not left:
            self._is_drained.set()
        self.after_round()
        return bool(left)

    def _leave(self) -> None:
        """End the streams whose clients have gone, whose time is up, or for which there is no device."""
        now = time.monotonic()
        for stream in self._streams():
            if (failure := self._why_leaves(stream, now)) is not None:
                self._end(stream, failure)
        if now >= self._watch_due:
            self._watch_due = now + WATCH_SECONDS
            if streams := self._streams():
                self._sender.watch(streams)

    def _why_leaves(self, stream: OpenStream, now: float) -> Failure | None:
        if self._health.fault is not None:
            return self._failures.unavailable()
        if stream.unsent is not None:
            return stream.unsent
        if stream.is_gone:
            return self._failures.cancelled(stream.request)
        if now >= stream.deadline:
            return self._failures.expired(stream.request, stream.num_items)
        if self._ends_at is not None and now >= self._ends_at:
            return self._failures.unloaded(stream.request.id)
        return None

    def _begin(self) -> None:
        """Go on with streams that were set aside, and begin waiting ones, as far as there is room."""
        while self._aside and len(self._open) < self._limit:
            self._open.append(self._aside.popleft())
        if not (streams := self._admitted()):
            return
        older = list(self._open)
        begun = self._begins.run(streams, self._take_begun, may_wait=bool(older))
        for error, failed in begun.failed:
            self._fail(failed, error, "begin")
        # Those that `begin_batch` was called for again may have come before older ones.
        self._open.sort(key=[*older, *streams].index)
        if begun.aside:
            # There may be enough memory when one of those that are open has ended.
            self._shrink(len(self._open))

    def _admitted(self) -> list[OpenStream]:
        """Return those that may begin in this round, oldest first; until they have, they wait."""
        admitted: list[OpenStream] = []
        for stream in list(self._waiting)[: self._max_begins]:
            # If any are still set aside, there is no room.
            if len(self._open) + len(admitted) >= self._limit:
                break
            # Asked here, and not by the thread that sends: nothing has been sent to it yet.
            if stream.responses.is_cancelled():
                self._end(stream, self._failures.cancelled(stream.request))
            else:
                admitted.append(stream)
        return admitted

    def _take_begun(self, results: Sequence[tuple[OpenStream, Any]]) -> None:
        for stream, result in results:
            stream.has_begun = isinstance(result, Next)
            self._waiting.remove(stream)
            self._open.append(stream)
        self._take(results)

    def _step(self) -> None:
        stepped = self._isolation.run(list(self._open), self._take)
        for error, streams in stepped.failed:
            self._fail(streams, error, "step")
        if stepped.aside:
            self._open = [one for one in self._open if one not in stepped.aside]
            self._aside.extendleft(reversed(stepped.aside))
            self._shrink(len(self._open))
        elif self._limit < self._most:
            self._grow()

    def _shrink(self, limit: int) -> None:
        """Let no more streams be open than there was memory for."""
        # One at least: with none open, nothing could end and make room.
        self._limit, self._num_good_steps = max(1, limit), 0
        self._counters.preemptions += 1

    def _grow(self) -> None:
        """Try one stream more after some steps that had enough memory."""
        self._num_good_steps += 1
        if self._num_good_steps >= GROWTH_STEPS:
            self._limit, self._num_good_steps = self._limit + 1, 0

    def _take(self, results: Sequence[tuple[OpenStream, Any]]) -> None:
        """Keep the streams' next states, bring their items back, and hand over what is to be sent."""
        items: dict[OpenStream, Any] = {}
        done: set[OpenStream] = set()
        for stream, result in results:
            if isinstance(result, RequestError):
                self._fail([stream], result, "step")
                continue
            stream.state, item, is_done = outcome_of(result, stream.state)
            if is_done:
                done.add(stream)
            if item is not None:
                items[stream] = item
        outputs = self._bring_back(items)
        deliveries = [self._delivery(one, value, is_last=one in done) for one, value in outputs.items()]
        deliveries += [Delivery(one, is_last=True) for one in done if one not in outputs]
        for one in deliveries:
            if one.is_last:
                self._close(one.stream)
        self._sender.send(deliveries)

    def _bring_back(self, items: Mapping[OpenStream, Any]) -> dict[OpenStream, Tensors | Failure]:
        """Return the outputs of each stream's item, or how the stream fails."""
        if not items:
            return {}
        try:
            brought = self._runner.bring_back(list(items.values()), [one.request for one in items])
        except BaseException as error:
            brought = [self._health.caught(error)] * len(items)
        return {
            stream: self._failures_of([stream.request.id], one, "step")[0]
            if isinstance(one, Exception)
            else one
            for stream, one in zip(items, brought, strict=True)
        }

    def _delivery(self, stream: OpenStream, outputs: Tensors | Failure, *, is_last: bool) -> Delivery:
        """Return what a stream sends: the item, or an error if it is none, or one too many."""
        if isinstance(outputs, Failure):
            return Delivery(stream, is_last=True, failure=outputs)
        info = stream.request.info
        # A copy, since the hooks of the next step may set others before it is sent.
        parameters = dict(info.response_parameters) if info is not None else None
        if self._max_bytes:
            stream.num_bytes += stream.responses.size_of(outputs, parameters)
            if stream.num_bytes > self._max_bytes:
                failure = self._failures.too_long(stream.request, stream.num_items)
                return Delivery(stream, is_last=True, failure=failure)
        stream.num_items += 1
        return Delivery(stream, outputs, parameters, is_last)

    def _fail(self, streams: Sequence[OpenStream], error: Exception, hook: str) -> None:
        """End streams for which a hook has raised; the traceback is logged once."""
        failures = self._failures_of([one.request.id for one in streams], error, hook)
        for stream, failure in zip(streams, failures, strict=True):
            self._end(stream, failure)

    def _failures_of(self, ids: Sequence[str], error: Exception, hook: str) -> list[Failure]:
        if self._health.fault is not None:
            return [self._failures.unavailable()] * len(ids)
        if self._reporter.refuses(error):
            return [self._reporter.refusal(error)] * len(ids)
        return self._reporter.fail(error, ids, hook)

    def _end(self, stream: OpenStream, failure: Failure) -> None:
        """End a stream with an error."""
        self._close(stream)
        self._sender.send([Delivery(stream, is_last=True, failure=failure)])

    def _close(self, stream: OpenStream) -> None:
        """Give a stream's place to another, after its `end`; an error of that doesn't change the answer."""
        self._open = [one for one in self._open if one is not stream]
        for others in (self._aside, self._waiting):
            if stream in others:
                others.remove(stream)
        try:
            if stream.has_begun and self._health.fault is None:
                self._runner.end(stream.state)
        except BaseException as error:
            self._logger.error("model %r: stream not closed: %s", self._model, report(error))
        stream.state = None
        self._places.release()
