"""One request of a decoupled model: its inputs to the device, and the items of its `stream` back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from kindaware._batch.counters import Counters, Stopwatch
from kindaware._batch.hook_requests import HookRequests
from kindaware._batch.output_stage import OutputStage
from kindaware._batch.outputs import name_outputs
from kindaware._batch.plan import Plan
from kindaware._batch.request import Request
from kindaware._device.device import Device
from kindaware._device.modules import hook_scope, prepare_input
from kindaware._tensors.bytes_arrays import Value


class StreamRunner:
    """Takes requests to the device one by one, and items back.

    Args:
        plan: of the instance.
        device: the instance's.
        counters: to which each step is added.

    Attributes:
        device: the instance's.
        counters: what has been done so far.
    """

    def __init__(self, plan: Plan, device: Device, counters: Counters) -> None:
        self.device = device
        self.counters = counters
        self._plan = plan
        self._hook_requests = HookRequests(plan.spec, plan.hooks)
        self._output_stage = OutputStage(plan, device.staging)

    def open(self, request: Request) -> Any:
        """Bring one request's inputs to the device, and call `stream` with them.

        They lie in memory that Triton does not take back.

        Returns:
            What `stream` returned: a generator, of which nothing has run yet.

        Sync:
            Host with device.
        """
        plan = self._plan
        placed: dict[str, Value] = {}
        with self._counted("copy_in"), self.device.batch():
            for name, value in request.inputs.items():
                placed[name] = value
                if isinstance(value, torch.Tensor):
                    tensor = self.device.staging.put([value])
                    owned = tensor if value.device.type == "cpu" else tensor.clone()
                    placed[name] = prepare_input(owned, plan.settings, plan.precision)
        extras = self._hook_requests.argument("forward", [request])
        return plan.hooks.call(plan.hooks.forward, placed, **extras)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Make current what a step of `stream` computes in; the step's time counts as `forward`."""
        with self._counted("forward"), hook_scope(self.device.runtime, self._plan.precision):
            yield

    def bring_back(self, item: Any, request: Request) -> dict[str, Value]:
        """Take what `stream` yielded through `postprocess`, the checks, and off the device.

        Args:
            item: anything that `forward` might return.
            request: the one that it is for.

        Returns:
            Tensors by name, contiguous, [b, ...] when the model batches, computed, valid until the next call.

        Raises:
            OutputError: the item is not what the configuration declares.

        Sync:
            Waits once for the device.
        """
        self.device.staging.begin_call()
        with self._counted("copy_out"), self.device.batch():
            with torch.inference_mode():
                outputs = name_outputs(item, self._plan.spec, self._plan.spec.hook)
                finished = self._output_stage.finish(outputs, [request], request.rows)
            return self._output_stage.fetch(finished)

    @contextlib.contextmanager
    def _counted(self, stage: str) -> Iterator[None]:
        """Add the seconds of the block to a stage, and count what it copies between host and device."""
        statistics = self.device.staging.statistics
        num_in, num_out = statistics.bytes_in, statistics.bytes_out
        stopwatch = Stopwatch(self.counters)
        try:
            yield
        finally:
            stopwatch.lap(stage)
            if not self.device.runtime.is_host:
                self.counters.add_bytes(statistics.bytes_in - num_in, statistics.bytes_out - num_out)
