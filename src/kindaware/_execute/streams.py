"""Requests to a decoupled model: a generator for each, whose items are sent as responses.

request -> preprocess -> on the device -> stream -> item -> postprocess -> checked -> host -> response, and so
on until the generator ends, fails, or the client has cancelled
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch

from kindaware._batch.counters import Stopwatch
from kindaware._batch.plan import Plan
from kindaware._batch.preprocess import Preprocessor
from kindaware._batch.request import Request
from kindaware._batch.request_context import RequestScope
from kindaware._batch.results import Failure
from kindaware._batch.stages import COPY_IN, COPY_OUT, POSTPROCESS, PREPROCESS, STREAM, Stage
from kindaware._execute.client_watch import ClientGoneError, Watch
from kindaware._execute.item_sender import Delivery, ItemSender
from kindaware._execute.open_stream import OpenStream
from kindaware._execute.stream_arrivals import StreamArrivals
from kindaware._execute.stream_failures import StreamFailures
from kindaware._execute.stream_runner import StreamRunner
from kindaware._hooks.blame import blame, report
from kindaware._hooks.event_loop import EventLoop, Scope, Stepped, drive
from kindaware._tensors.bytes_arrays import Value
from kindaware._triton.adapter import TritonAdapter
from kindaware._triton.response_sender import ResponseSender

_END = object()
"""Returned in place of an item after the last one."""


class _Items(Protocol):
    """The items of a user's generator, computed one by one, each inside the scope."""

    def next(self) -> Awaitable[Any]:
        """Return the next item; `_END` after the last.

        Raises:
            ClientGoneError: the client has cancelled while the generator was waiting.
        """

    def close(self) -> Awaitable[None]:
        """Close the generator, so that its `finally` runs."""


class _PlainItems:
    """The items of a plain generator, computed by the calling thread without suspending."""

    def __init__(self, generator: Generator[Any, Any, Any], scope: Scope) -> None:
        self._generator = generator
        self._scope = scope

    async def next(self) -> Any:
        """Return the next item; `_END` after the last."""
        try:
            with self._scope():
                return next(self._generator, _END)
        except BaseException as error:
            blame(error, "stream")
            raise

    async def close(self) -> None:
        """Close the generator."""
        with self._scope():
            self._generator.close()


class _AsyncItems:
    """The items of an asynchronous generator; other streams get a turn before each item."""

    def __init__(
        self, generator: AsyncGenerator[Any, Any], scope: Scope, watch: Watch, loop: EventLoop
    ) -> None:
        self._generator = generator
        self._scope = scope
        self._watch = watch
        self._loop = loop

    async def next(self) -> Any:
        """Return the next item; `_END` after the last."""
        # A generator that never suspends would otherwise run to its end before any other stream.
        await asyncio.sleep(0)
        try:
            with self._watch:
                return await self._stepped(self._generator.__anext__())
        except StopAsyncIteration:
            return _END
        except BaseException as error:
            blame(error, "stream")
            raise

    async def close(self) -> None:
        """Close the generator."""
        with self._loop.cleanup():
            await self._stepped(self._generator.aclose())

    def _stepped(self, awaitable: Awaitable[Any]) -> Stepped[Any]:
        return Stepped(awaitable, self._scope, lambda: self._loop.is_refusing)


class Streams:
    """Answers requests with the hook `stream`.

    A plain generator runs to completion on the thread that calls `execute`, one request after another.
    Asynchronous generators run on the instance's event loop, up to `max_streams` at once; `execute` returns
    immediately while there are fewer, and otherwise waits for one to end, so that further requests stay in
    the server's queue.

    Args:
        plan: plan of the instance.
        runner: runs one request on the device.
        loop: runs asynchronous generators; None if `stream` is a plain generator.

    Attributes:
        arrivals: reads the requests.
    """

    def __init__(self, plan: Plan, runner: StreamRunner, loop: EventLoop | None) -> None:
        self._model = plan.spec.name
        self._max_bytes = plan.settings.max_stream_bytes
        self._preprocessor = Preprocessor(plan, runner.device)
        self._runner = runner
        self._health = runner.device.health
        self._failures = StreamFailures(plan, self._health)
        self.arrivals = StreamArrivals(plan, self._health, runner.counters, outlives_execute=loop is not None)
        self._logger = plan.logger
        self._reporter = plan.reporter
        # Outputs that stay on a device are sent by the thread that computes them, which has its stream.
        is_shared = plan.settings.items_per_response > 1 and not plan.settings.keeps_outputs
        self._sender = ItemSender(plan, runner.counters) if is_shared else None
        self._free = threading.Semaphore(plan.settings.max_streams)
        self._loop = loop
        self._is_ending = False

    def end(self) -> None:
        """End the streams that are open with `UNAVAILABLE`, from another thread: the server doesn't wait.

        A plain generator ends at its next item.

        Sync:
            Until asynchronous ones have ended, for at most 5 s.
        """
        self._is_ending = True
        if self._loop is not None:
            self._loop.cancel_submitted()

    def serve(self, adapter: TritonAdapter, requests: Sequence[Any]) -> None:
        """Answer the requests of one call of `execute`, each with a generator of its own.

        Args:
            adapter: reads requests and builds responses.
            requests: the requests that Triton passes.

        Sync:
            Plain generators: until all have ended. Asynchronous ones: until there is room for all, and until
            inputs in Triton's GPU memory, which it reclaims when `execute` returns, have been copied.
        """
        for arrival, responses in self.arrivals.read(adapter, requests):
            is_placed = threading.Event()
            answer = self._answer(arrival, responses, is_placed)
            if self._loop is None:
                drive(answer)
                continue
            # Released when the stream ends, however it ends.
            self._free.acquire()
            self._loop.submit(answer).add_done_callback(lambda _: self._free.release())
            # Triton reclaims GPU memory when `execute` returns; on the host, the arrays keep it alive.
            if isinstance(arrival, Request) and arrival.is_on_device:
                is_placed.wait()

    def close(self) -> None:
        """Send what is left. Sync: until it is sent, for at most 5 s."""
        if self._sender is not None:
            self._sender.close()

    def warm_up(self, request: Request) -> Request:
        """Run a warm-up request through `preprocess` and to the first item, which is not sent.

        Returns:
            The request, preprocessed.

        Raises:
            Exception: what a hook raised.

        Sync:
            Host with stream.
        """
        prepared = self._preprocessor.run(request)
        if self._loop is None:
            drive(self._first(prepared))
        else:
            self._loop.run(self._first(prepared))
        return prepared

    def stages(self) -> Iterator[Stage]:
        """Iterate over the stages of a stream; those behind `copy in` come again with each item."""
        yield Stage(STREAM, self, "_answer", lambda arrival, *_: [arrival])
        if self._preprocessor.has_hooks:
            yield Stage(PREPROCESS, self._preprocessor, "run")
        yield Stage(COPY_IN, self._runner, "place")
        yield Stage(POSTPROCESS, self._runner.output_stage, "finish")
        yield Stage(COPY_OUT, self._runner.output_stage, "fetch")

    async def _first(self, request: Request) -> None:
        items = self.open_items(request, is_gone=lambda: False)
        try:
            item = await items.next()
            if item is not _END:
                self._runner.bring_back(item, request)
        finally:
            await items.close()

    def open_items(self, request: Request, is_gone: Callable[[], bool]) -> _Items:
        """Return the items of a request's generator, which has not started.

        Args:
            request: the request, preprocessed.
            is_gone: whether the client has cancelled.

        Sync:
            Host with stream: when this returns, the inputs are copied.
        """
        generator = self._runner.open(request)
        if self._loop is None:
            return _PlainItems(generator, self._runner.scope)
        return _AsyncItems(generator, self._runner.scope, Watch(is_gone), self._loop)

    async def _answer(
        self, arrival: Request | Failure, responses: ResponseSender, is_placed: threading.Event
    ) -> None:
        """Answer one request, and send exactly one FINAL, whatever happens."""
        failure: Failure | None = None
        stage = "preprocess"
        stream: OpenStream | None = None
        try:
            if isinstance(arrival, Failure):
                failure = arrival
            elif responses.is_cancelled():
                failure = self._failures.cancelled(arrival)
            else:
                with self._runner.beat:
                    request = self._preprocessor.run(arrival)
                stage = "stream"
                stream = OpenStream(request, responses)
                failure = await self._send_items(stream, is_placed)
        except BaseException as error:  # anything but a normal end is an error for the client
            try:
                failure = self._failure(error, arrival, stage)
            except BaseException as other:
                # Without a failure, the client would take the items so far for all there are.
                failure = self._failure_of(other, stage)
        # Also set if the stream was never opened, since `serve` may be waiting for it.
        is_placed.set()
        if self._sender is not None and stream is not None:
            self._sender.send([Delivery(stream, is_last=True, failure=failure)])
        else:
            self._end(arrival, responses, failure)

    def _failure_of(self, error: BaseException, stage: str) -> Failure:
        """Return the failure for an error of the report itself, whether or not that can be logged."""
        try:
            (failure,) = self._reporter.fail(error, [""], stage)
        except BaseException:
            failure = self._failures.untold()
        return failure

    def _end(self, arrival: Request | Failure, responses: ResponseSender, failure: Failure | None) -> None:
        """Count the stream, and send FINAL."""
        self._count(arrival, failure)
        try:
            responses.end(failure)
        except Exception as error:
            self._logger.error("model %r: FINAL not sent: %s", self._model, report(error))

    def _count(self, arrival: Request | Failure, failure: Failure | None) -> None:
        """Count a stream that ended normally as a batch of one request, and any other as an error."""
        counters = self._runner.counters
        if failure is not None:
            counters.add_errors([failure.code])
        elif isinstance(arrival, Request):
            counters.add_batch(1, 1 if arrival.rows is None else arrival.rows)

    async def _send_items(self, stream: OpenStream, is_placed: threading.Event) -> Failure | None:
        """Send all items of the generator; return the failure to send after them, None for none."""
        items = self.open_items(stream.request, stream.responses.is_cancelled)
        # The inputs are copied, so `serve` may return, and Triton may reclaim their memory.
        is_placed.set()
        with RequestScope([stream.request]):
            return await self._send_all(items, stream)

    async def _send_all(self, items: _Items, stream: OpenStream) -> Failure | None:
        request, responses = stream.request, stream.responses
        # Of the request's info, whose hooks may set others for each item.
        parameters = None if request.info is None else request.info.response_parameters
        try:
            while self._health.fault is None:
                # A generator that swallows its cancellation takes no further step while `unload` runs.
                if self._is_closing:
                    return self._failures.unloaded(request.id)
                item = await items.next()
                if item is _END:
                    return None
                # No await between these two: another stream would reuse the buffers of the outputs.
                outputs = self._runner.bring_back(item, request)
                if self._max_bytes:
                    stream.num_bytes += responses.size_of(outputs, parameters)
                    if stream.num_bytes > self._max_bytes:
                        return self._failures.too_long(request, stream.num_items)
                self._send(stream, outputs, parameters)
                stream.num_items += 1
                if stream.unsent is not None or responses.is_cancelled():
                    return stream.unsent or self._failures.cancelled(request)
            return self._failures.unavailable()
        except ClientGoneError:
            return self._failures.cancelled(request)
        finally:
            await self._close(items)

    def _send(
        self, stream: OpenStream, outputs: Mapping[str, Value], parameters: Mapping[str, Any] | None
    ) -> None:
        """Send an item, or hand a copy of it to the thread that sends."""
        if self._sender is not None:
            # The generator, and the next item of any stream, may write over what it lies in.
            copied = {
                name: value.clone() if isinstance(value, torch.Tensor) else value
                for name, value in outputs.items()
            }
            self._sender.send([Delivery(stream, copied, dict(parameters or {}))])
            return
        stopwatch = Stopwatch(self._runner.counters)
        stream.responses.send(outputs, parameters)
        stopwatch.lap("respond")

    async def _close(self, items: _Items) -> None:
        """Close the generator; an error of its cleanup is logged, and doesn't change the answer."""
        try:
            await items.close()
        except BaseException as error:
            self._logger.error("model %r: stream not closed: %s", self._model, report(error))

    def _failure(self, error: BaseException, arrival: Request | Failure, hook: str) -> Failure:
        """Return what the client reads when a hook has raised; the traceback is logged."""
        request_id = arrival.id if isinstance(arrival, Request) else ""
        # Cancelled by the loop's end, and not by a hook, which could raise CancelledError itself.
        if isinstance(error, asyncio.CancelledError) and self._is_closing:
            return self._failures.unloaded(request_id)
        caught = self._health.caught(error)
        if self._health.fault is not None:
            return self._failures.unavailable()
        if self._reporter.refuses(caught):
            return self._reporter.refusal(caught)
        return self._reporter.fail(caught, [request_id], hook)[0]

    @property
    def _is_closing(self) -> bool:
        return self._is_ending or (self._loop is not None and self._loop.is_closing)
