"""`Tracing`: everything of an instance that gets spans."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from logging import Logger
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from kindaware._batch.request import Request
from kindaware._batch.stages import RESPOND, STREAM, Stage
from kindaware._config.args import InstanceArgs
from kindaware._execute.stream_arrivals import Arrival, StreamArrivals
from kindaware._hooks.hooks import Hooks
from kindaware._tracing.provider import FLUSH_SECONDS, flush, obtain_provider
from kindaware._tracing.spans import PREFIX, Spans, first_sampled
from kindaware._tracing.traced_call import trace_calls
from kindaware._triton.adapter import TritonAdapter
from kindaware._triton.bls import Calls

if TYPE_CHECKING:
    from kindaware._execute.executor import Executor
    from kindaware._execute.streams import Streams

Execute = Callable[[list[Any]], list[Any] | None]


class Tracing:
    """The tracing of one instance.

    Nothing else of the library knows of it: it puts spans around the methods that an instance names as its
    stages. The warm-up has none.

    Args:
        args: of the instance.
        environment: of the process.
        logger: of the instance.

    Raises:
        ConfigError: a package that is needed is not installed, or a variable has a value that can't be.
    """

    def __init__(self, args: InstanceArgs, environment: Mapping[str, str], logger: Logger) -> None:
        self._provider = obtain_provider(args, environment)
        self._logger = logger
        attributes = {
            PREFIX + "model": args.model_name,
            PREFIX + "version": args.model_version,
            PREFIX + "instance": args.instance_name,
        }
        self._spans = Spans(trace.get_tracer("kindaware", tracer_provider=self._provider), attributes)

    def watch(self, hooks: Hooks, model: object, answering: str) -> Hooks:
        """Return the hooks such that each call has a span, which is current in it.

        Args:
            hooks: the user's hooks.
            model: the user's object.
            answering: name of the hook that gets the inputs: `forward`, `stream` or `begin`.
        """
        watched: dict[str, Any] = {}
        for field, hook in hooks.defined().items():
            name = answering if field == "forward" else field
            # What it returns is a generator, which `_trace_items` looks after.
            if name != STREAM:
                code = f"{type(model).__name__}.{name}"
                watched[field] = self._spans.around(hook, functools.partial(self._spans.hook, name, code))
        return replace(hooks, **watched)

    def trace_stages(self, stages: Iterable[Stage]) -> None:
        """Put a span around each stage."""
        for stage in stages:
            self._spans.wrap(stage)

    def trace_calls(self, calls: Calls) -> None:
        """Put a span around each call of another model."""
        trace_calls(calls, self._spans)

    def trace_execute(self, execute: Execute) -> Execute:
        """Return what answers a call of `execute`, with a span for each request, and one for the call."""

        def traced(requests: list[Any]) -> list[Any] | None:
            opened = [self._spans.open(one) for one in requests]
            parent = trace.set_span_in_context(first_sampled(opened)) if opened else None
            try:
                with self._spans.tracer.start_as_current_span(
                    PREFIX + "execute", parent, attributes={PREFIX + "requests": len(requests)}
                ):
                    responses = execute(requests)
            except BaseException as error:
                for request in requests:
                    self._spans.close(request, code="INTERNAL", text=str(error))
                raise
            # Without responses, they are sent beside the next call; see `trace_answers`.
            for request, response in zip(requests, responses, strict=True) if responses is not None else ():
                self._close(request, response)
            return responses

        return traced

    def trace_answers(self, executor: Executor) -> None:
        """Have the spans of requests end that are answered when `execute` has returned."""
        executor.on_answer = self._close

    def _close(self, request: Any, response: Any) -> None:
        """End the span of a request that is answered, or comes again."""
        if response is None:
            self._spans.close(request, rescheduled=True)
        elif response.has_error():
            error = response.error()
            self._spans.close(request, code=error.code().name, text=error.message())
        else:
            self._spans.close(request)

    def trace_arrivals(self, arrivals: StreamArrivals) -> None:
        """Give each request of a decoupled model a span, until its last response is sent."""
        read = arrivals.read

        def traced(adapter: TritonAdapter, requests: Sequence[Any]) -> list[Arrival]:
            for request in requests:
                self._spans.open(request)
            try:
                found = read(adapter, requests)
            except BaseException as error:
                for request in requests:
                    self._spans.close(request, code="INTERNAL", text=str(error))
                raise
            for request, arrival in zip(requests, found, strict=True):
                self._follow(request, *arrival)
            return found

        self._spans.replace(arrivals, "read", traced)

    def _follow(self, request: Any, arrival: Any, responses: Any) -> None:
        """Have a stream's span end with its last response, and give each response one."""
        origin = arrival.origin if isinstance(arrival, Request) else responses
        self._spans.move(request, origin)
        end = responses.end

        def traced(failure: Any = None) -> None:
            try:
                end(failure)
            finally:
                about = {} if failure is None else {"code": failure.code, "text": failure.text}
                self._spans.close(origin, items=responses.num_sent, **about)

        self._spans.replace(responses, "end", traced)
        self._spans.wrap(Stage(RESPOND, responses, "send", lambda *_: [arrival]))

    def trace_items(self, streams: Streams, model: object) -> None:
        """Put a span around each step of a generator: the computation of an item, and what it awaits."""
        open_items = streams.open_items
        scope = functools.partial(self._spans.hook, STREAM, f"{type(model).__name__}.stream")

        def traced(*args: Any) -> Any:
            items = open_items(*args)
            self._spans.replace(items, "next", self._spans.around(items.next, scope))
            return items

        self._spans.replace(streams, "open_items", traced)

    def close(self) -> None:
        """Have the spans exported; a warning says if that was not done in time. Sync: for at most 3 s."""
        if not flush(self._provider):
            self._logger.warning("tracing: the last spans were not exported within %g s", FLUSH_SECONDS)
