"""One request of a decoupled model on the device: inputs copied there, items of `stream` copied back."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from kindaware._batch.counters import Counters, Stopwatch
from kindaware._batch.hook_requests import HookRequests
from kindaware._batch.output_stage import OutputStage
from kindaware._batch.outputs import name_outputs
from kindaware._batch.plan import Plan
from kindaware._batch.request import Request
from kindaware._device.device import Device
from kindaware._device.modules import gradients_off, hook_scope, prepare_input
from kindaware._device.nested import Nested
from kindaware._hooks.blame import blame
from kindaware._tensors.bytes_arrays import Value
from kindaware._tensors.rows import concat_bytes, joinable, split


class StreamRunner:
    """Runs the hook `stream` for one request at a time.

    Args:
        plan: plan of the instance.
        device: device of the instance.
        counters: counters to which each step is added.

    Attributes:
        device: device of the instance.
        counters: counters of the instance.
        output_stage: finishes the items.
        beat: around each piece of work, for those who watch for one that does not return.
    """

    def __init__(self, plan: Plan, device: Device, counters: Counters) -> None:
        self.device = device
        self.counters = counters
        self.beat: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        self._plan = plan
        self._hook_requests = HookRequests(plan.spec, plan.hooks)
        self.output_stage = OutputStage(plan, device.staging)

    def open(self, request: Request) -> Any:
        """Copy one request's inputs to the device, and call `stream` with them.

        Returns:
            What `stream` returned: a generator that has not started.

        Sync:
            Host with stream: when this returns, the inputs are copied.
        """
        return self.call(self.place(request), request)

    def place(self, request: Request) -> dict[str, Value]:
        """Return one request's inputs on the device, in memory that Triton doesn't reclaim.

        A stream may outlive `execute`, which reclaims the request's own memory there.

        Sync:
            Host with stream: when this returns, the inputs are copied.
        """
        plan = self._plan
        placed: dict[str, Value] = {}
        with self.counted("copy_in"), self.device.batch():
            for name, value in request.inputs.items():
                parts: list[Any] = joinable([value])
                if not isinstance(parts[0], torch.Tensor):
                    placed[name] = concat_bytes(parts)
                    continue
                tensor = self.device.staging.put(parts)
                # A single tensor on a device is passed through by the staging: still Triton's memory.
                owned = tensor if parts[0].device.type == "cpu" else tensor.clone()
                placed[name] = prepare_input(owned, plan.settings, plan.precision)
        return placed

    def call(self, placed: dict[str, Value], request: Request) -> Any:
        """Call `stream`, or `begin`, with one request's inputs, and return what it returned."""
        plan = self._plan
        extras = self._hook_requests.argument("forward", [request])
        try:
            return plan.hooks.call(plan.hooks.forward, placed, **extras)
        except BaseException as error:
            blame(error, plan.hook)
            raise

    def scope(self) -> contextlib.AbstractContextManager[None]:
        """Return what a step of `stream` computes in, and is timed by as `forward`; see `hook_scope`."""
        plan = self._plan
        return Nested(
            lambda: self.counted("forward"),
            lambda: hook_scope(self.device.runtime, plan.precision, plan.settings),
        )

    def bring_back(self, item: Any, request: Request) -> dict[str, Value]:
        """Run `postprocess` on an item of `stream`, check its outputs, and copy them off the device.

        Args:
            item: the item, of the same form as the result of `forward`.
            request: the request that it answers.

        Returns:
            Contiguous tensors by name, [b, ...] if the model batches, computed, valid until the next call of
            this method.

        Raises:
            OutputError: the item doesn't match the configuration.
            Exception: what `postprocess` raised.

        Sync:
            Host with stream.
        """
        # An item is sent before the next is fetched, of any stream, so its buffers are free again.
        self.device.staging.begin_call()
        with self.counted("copy_out"), self.device.batch():
            # The item's own scope has ended with the step that yielded it.
            with gradients_off(self._plan.settings):
                outputs = name_outputs(item, self._plan.spec, self._plan.spec.hook)
                finished = self.output_stage.finish(outputs, [request])
            (answer,) = split(self.output_stage.fetch(finished), [request.rows])
        return dict(answer)

    def counted(self, stage: str) -> _Counted:
        """Return what counts a block, for a stage."""
        return _Counted(self, stage)


class _Counted:
    """Adds a block's seconds to a stage, and counts the bytes that it copies between host and device."""

    __slots__ = ("_beat", "_counters", "_device", "_num_in", "_num_out", "_stage", "_stopwatch")

    def __init__(self, runner: StreamRunner, stage: str) -> None:
        self._beat = runner.beat
        self._device = runner.device
        self._counters = runner.counters
        self._stage = stage

    def __enter__(self) -> None:
        self._beat.__enter__()
        statistics = self._device.staging.statistics
        self._num_in, self._num_out = statistics.bytes_in, statistics.bytes_out
        self._stopwatch = Stopwatch(self._counters)

    def __exit__(self, *_: object) -> None:
        self._beat.__exit__(None, None, None)
        self._stopwatch.lap(self._stage)
        statistics = self._device.staging.statistics
        self._counters.add_bytes(statistics.bytes_in - self._num_in, statistics.bytes_out - self._num_out)
