"""`begin` and `step` on the device: inputs copied there, the items of all streams copied back at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kindaware._batch.counters import Counters
from kindaware._batch.hook_requests import HookRequests
from kindaware._batch.output_stage import OutputStage
from kindaware._batch.outputs import name_outputs
from kindaware._batch.plan import Plan
from kindaware._batch.preprocess import Preprocessor
from kindaware._batch.request import Request
from kindaware._batch.request_context import RequestScope
from kindaware._batch.stages import BEGIN, COPY_IN, COPY_OUT, POSTPROCESS, PREPROCESS, STEP, Stage
from kindaware._config.model_spec import TensorSpec
from kindaware._device.device import Device
from kindaware._device.modules import gradients_off
from kindaware._errors import OutputError, RequestError, message
from kindaware._execute.beat import Beat
from kindaware._execute.step_graphs import StepGraphs
from kindaware._execute.stream_runner import StreamRunner
from kindaware._hooks.step_results import Done, Next, outcome_of
from kindaware._tensors.bytes_arrays import Value, to_bytes
from kindaware._tensors.rows import Output, concat, concat_bytes, split

Item = Mapping[str, Value]
"""An item by output name, in memory that nothing overwrites."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Placed:
    """A request that is ready for `begin`.

    Attributes:
        request: what `preprocess` has made of it.
        inputs: its inputs on the device, by name.
    """

    request: Request
    inputs: dict[str, Value]


class StepRunner:
    """Runs the hooks of a model with `step`.

    Args:
        plan: plan of the instance.
        device: device of the instance.
        counters: counters to which each step is added.

    Attributes:
        device: device of the instance.
        counters: counters of the instance.
        has_end: whether the class defines `end`.
        graphs: the CUDA graphs of what `step` calls.
    """

    def __init__(self, plan: Plan, device: Device, counters: Counters) -> None:
        self.device = device
        self.counters = counters
        self.has_end = plan.hooks.end is not None
        self.graphs = StepGraphs(plan, device)
        self._plan = plan
        self._preprocessor = Preprocessor(plan, device)
        self._stream_runner = StreamRunner(plan, device, counters)
        self._hook_requests = HookRequests(plan.spec, plan.hooks)
        self._output_stage = OutputStage(plan, device.staging)
        # Whether outputs are sent from where the model left them on the device.
        self._stays = plan.settings.keeps_outputs

    def stages(self) -> Iterator[Stage]:
        """Iterate over the stages of a stream, from `begin` to its items."""
        yield Stage(BEGIN, self, "begin", lambda request: [request])
        if self._plan.hooks.begin_batch is not None:
            yield Stage(BEGIN, self, "begin_together", lambda placed: [one.request for one in placed])
        if self._preprocessor.has_hooks:
            yield Stage(PREPROCESS, self._preprocessor, "run")
        yield Stage(COPY_IN, self._stream_runner, "place")
        yield Stage(STEP, self, "step", lambda states, requests: requests)
        yield Stage(COPY_OUT, self, "bring_back", lambda items, requests: requests)
        yield Stage(POSTPROCESS, self._output_stage, "finish")

    def watch(self, beat: Beat) -> None:
        """Tell since when the hooks run."""
        self._stream_runner.beat = beat

    def keep(self, request: Request) -> Request:
        """Return the request with inputs that outlive `execute`; Triton reclaims its GPU memory then.

        Sync:
            Host with stream, if an input lies on the device. On any thread.
        """
        if not request.is_on_device:
            return request
        own = self.device.runtime.device
        with self.device.runtime.scope():
            # From another GPU to this one: its stream waits for that copy, and the host for its stream.
            inputs = {
                name: value.to(value.device if value.device.type == "cpu" else own, copy=True)
                if isinstance(value, torch.Tensor)
                else value
                for name, value in request.inputs.items()
            }
            self.device.runtime.wait()
        return request.with_inputs(inputs)

    def begin(self, request: Request) -> Next[Any] | Done:
        """Run `preprocess` and `begin` for one request; return its state, or its end, and an item with it.

        Raises:
            OutputError: `preprocess` returned something that `begin` can't take.
            RequestError: `begin` returned it.
            Exception: what a hook raised.

        Sync:
            Host with stream, for the inputs.
        """
        return self._begin(self.place(request))

    def place(self, request: Request) -> Placed:
        """Run `preprocess` for one request, and copy its inputs to the device.

        Raises:
            OutputError: `preprocess` returned something that `begin` can't take.
            Exception: what `preprocess` raised.

        Sync:
            Host with stream, for the inputs.
        """
        with self._stream_runner.beat:
            prepared = self._preprocessor.run(request)
        return Placed(prepared, self._stream_runner.place(prepared))

    def begin_together(self, placed: Sequence[Placed]) -> list[Next[Any] | Done | RequestError]:
        """Run `begin_batch` for several requests, or `begin` for one.

        Args:
            placed: the requests, at least one.

        Returns:
            For each its state, or its end, and an item with it; or why it is refused.

        Raises:
            OutputError: `begin_batch` returned something other than a list of one result per request.
            RequestError: `begin` returned it.
            Exception: what the hook raised.
        """
        if len(placed) == 1:
            return [self._begin(placed[0])]
        hook = self._plan.hooks.begin_batch
        assert hook is not None
        requests = [one.request for one in placed]
        extras = self._hook_requests.argument("begin_batch", requests)
        with self._stream_runner.scope(), RequestScope(requests):
            # Mappings of its own, which the hook may change.
            begun = hook([dict(one.inputs) for one in placed], **extras)
        results = self._results(begun, len(placed), "begin_batch")
        return [one if isinstance(one, RequestError) else _begun(one) for one in results]

    def _begin(self, placed: Placed) -> Next[Any] | Done:
        with self._stream_runner.scope(), RequestScope([placed.request]):
            begun = self._stream_runner.call(placed.inputs, placed.request)
        if isinstance(begun, RequestError):
            raise begun
        return _begun(begun)

    def step(self, states: Sequence[Any], requests: Sequence[Request]) -> list[Any]:
        """Run `step` once.

        Args:
            states: the states of the streams, at least one.
            requests: their requests.

        Returns:
            One result per state, in order.

        Raises:
            OutputError: `step` returned something other than a list of one result per state.
            Exception: what `step` raised.
        """
        hook = self._plan.hooks.step
        assert hook is not None
        extras = self._hook_requests.argument("step", requests)
        with self._stream_runner.scope(), RequestScope(requests):
            # A list of its own, which the hook may change.
            returned = hook(list(states), **extras)
        results = self._results(returned, len(states), "step")
        self.counters.add_step(len(states))
        return results

    def _results(self, returned: Any, number: int, hook: str) -> list[Any]:
        """Return what a hook returned for several streams, checked."""
        if isinstance(returned, (list, tuple)) and len(returned) == number:
            return list(returned)
        one, what = ("state", "an item, None") if hook == "step" else ("request", "a state")
        raise OutputError(
            message(
                f"model {self._plan.spec.name!r} {hook}",
                expected=f"a list of {number} results, one per {one}",
                got=f"{len(returned)}"
                if isinstance(returned, (list, tuple))
                else f"a {type(returned).__name__}",
                remedy=f"return for each {one}, in order, {what}, kindaware.Next or kindaware.Done",
            )
        )

    def end(self, state: Any) -> None:
        """Run `end`, if the class defines it.

        Raises:
            Exception: what `end` raised.
        """
        if self._plan.hooks.end is not None:
            with self._stream_runner.scope():
                self._plan.hooks.end(state)

    def warm_up(self, request: Request, num_streams: int) -> None:
        """Begin so many streams with a warm-up request, step them once together, and end them.

        Raises:
            Exception: what a hook raised, or `OutputError` for what it returned.

        Sync:
            Host with stream.
        """
        items: list[Any] = []
        states: list[Any] = []
        try:
            for result in self._begin_warm_up(request, num_streams):
                if isinstance(result, RequestError):
                    raise result
                state, item, is_done = outcome_of(result, None)
                states += [] if is_done else [state]
                items.append(item)
            with self.graphs.noting():
                results = self.step(states, [request] * len(states)) if states else []
            for position, result in enumerate(results):
                if isinstance(result, RequestError):
                    raise result
                states[position], item, _ = outcome_of(result, states[position])
                items.append(item)
        finally:
            for state in states:
                self.end(state)
        for item in items:
            if item is not None and isinstance(one := self.bring_back([item], [request])[0], Exception):
                raise one

    def _begin_warm_up(self, request: Request, num_streams: int) -> Iterator[Next[Any] | Done | RequestError]:
        if self._plan.hooks.begin_batch is not None:
            yield from self.begin_together([self.place(request) for _ in range(num_streams)])
        else:
            for _ in range(num_streams):
                yield self.begin(request)

    def bring_back(self, items: Sequence[Any], requests: Sequence[Request]) -> list[Item | Exception]:
        """Run `postprocess` on the items of several streams, check them, and copy them off the device.

        All of them at once, if they can be joined; an error of one's then shows when each is taken alone.

        Args:
            items: one per stream, of the same form as the result of `forward` for its request alone.
            requests: the requests that they answer.

        Returns:
            For each its outputs, computed, in memory of their own; or the error of it alone.

        Raises:
            Exception: the device has failed.

        Sync:
            Host with stream.
        """
        staging = self.device.staging
        try:
            with self._stream_runner.counted("copy_out"), self.device.batch(), RequestScope(requests):
                together = self._attempt(self._bring_together, items, requests)
                if isinstance(together, list):
                    return together
                return self._bring_apart(items, requests)
        finally:
            # What was fetched has been copied, so the buffers are free again.
            staging.begin_call()

    def _attempt(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function returns, or the error that it raises; raise only a device fault."""
        try:
            # The items' own scope has ended with the step that returned them.
            with gradients_off(self._plan.settings):
                return function(*arguments)
        except BaseException as raised:
            error = self.device.health.caught(raised)
            if self.device.health.fault is not None:
                raise
            return error

    def _bring_together(self, items: Sequence[Any], requests: Sequence[Request]) -> list[Item] | None:
        """Return the items; None if they can't be joined."""
        if len(items) == 1:
            return None
        named = [name_outputs(item, self._plan.spec, "step") for item in items]
        joined: dict[str, Any] = {}
        for output in self._plan.spec.outputs:
            values = [one[output.name] for one in named]
            if (value := self._join(values, output, requests)) is None:
                return None
            joined[output.name] = value
        fetched = self._fetch(self._output_stage.finish(joined, requests))
        return list(split(fetched, [one.rows for one in requests]))

    def _join(self, values: list[Any], output: TensorSpec, requests: Sequence[Request]) -> Output | None:
        """Return an output of all items as one, [B, ...], or a list, [b, ...] each; None if neither goes."""
        if output.dtype.torch is None:
            values = [to_bytes(one, f"output {output.name!r}") for one in values]
        elif not all(isinstance(one, torch.Tensor) and not one.is_nested for one in values):
            return None
        rank = 1 + len(output.shape)
        # Rows are cut by number, so each item must have those of its own request.
        if any(
            one.ndim != rank or len(one) != request.rows
            for one, request in zip(values, requests, strict=True)
        ):
            return None
        if len({one.shape[1:] for one in values}) > 1:
            return None if self._plan.hooks.postprocess is not None else values
        if output.dtype.torch is None:
            return concat_bytes(values)
        # Joined, tensors of several dtypes would become one of a third.
        return concat(values) if len({(one.dtype, one.device, one.layout) for one in values}) == 1 else None

    def _bring_apart(self, items: Sequence[Any], requests: Sequence[Request]) -> list[Item | Exception]:
        finished = [
            self._attempt(self._finish_one, item, request)
            for item, request in zip(items, requests, strict=True)
        ]
        whole = [one for one in finished if isinstance(one, dict)]
        if not whole:
            return finished
        columns = {name: [one[name] for one in whole] for name in whole[0]}
        fetched = self._attempt(self._fetch, columns)
        if isinstance(fetched, Exception):
            return [fetched if isinstance(one, dict) else one for one in finished]
        rows = iter(dict(zip(fetched, values, strict=True)) for values in zip(*fetched.values(), strict=True))
        return [next(rows) if isinstance(one, dict) else one for one in finished]

    def _finish_one(self, item: Any, request: Request) -> dict[str, Value]:
        named = name_outputs(item, self._plan.spec, "step")
        finished = self._output_stage.finish(named, [request])
        return {name: one[0] if isinstance(one, list) else one for name, one in finished.items()}

    def _fetch(self, outputs: Mapping[str, Output]) -> dict[str, Any]:
        """Copy outputs to where they are sent from: to memory that neither the model nor a buffer reuses."""
        if self._stays:
            # Before the wait, which covers what is queued.
            return self._output_stage.fetch({name: _copied(one) for name, one in outputs.items()})
        return {name: _copied(one) for name, one in self._output_stage.fetch(outputs).items()}


def _begun(begun: Any) -> Next[Any] | Done:
    # A bare state may be anything, also what would be an item of a step.
    return begun if isinstance(begun, (Next, Done)) else Next(begun)


def _copied(output: Output) -> Output:
    """Return a copy; arrays of BYTES are the library's own already."""
    if isinstance(output, list):
        return [one.clone() if isinstance(one, torch.Tensor) else one for one in output]
    return output.clone() if isinstance(output, torch.Tensor) else output
