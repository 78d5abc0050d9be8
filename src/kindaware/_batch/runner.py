"""One batch: from the requests' tensors to the device, through `forward`, and to the batch's outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from kindaware._batch.collate import Collator
from kindaware._batch.counters import Counters, Stopwatch
from kindaware._batch.hook_requests import HookRequests
from kindaware._batch.output_stage import OutputStage
from kindaware._batch.outputs import name_outputs
from kindaware._batch.plan import Plan
from kindaware._batch.request import Request
from kindaware._batch.request_context import RequestScope
from kindaware._batch.stages import COLLATE, COPY_IN, COPY_OUT, FORWARD, POSTPROCESS, Stage
from kindaware._device.cuda_graphs import Graphs
from kindaware._device.device import Device
from kindaware._device.modules import prepare_input
from kindaware._tensors.bytes_arrays import BytesArray, Value


class BatchRunner:
    """Takes batches through the device.

    Args:
        plan: of the instance.
        device: the instance's.
        counters: to which each batch is added.

    Attributes:
        device: the instance's.
        counters: what has been done so far.
        has_answered: whether a batch has ever come back.
    """

    def __init__(self, plan: Plan, device: Device, counters: Counters) -> None:
        self.device = device
        self.counters = counters
        self.has_answered = False
        self._plan = plan
        self._collator = Collator(plan)
        self._hook_requests = HookRequests(plan.spec, plan.hooks)
        self._graphs = Graphs(device.runtime, device.staging, self._compute)
        self._output_stage = OutputStage(plan, device.staging)
        self._converts = plan.converts_inputs

    def begin_call(self) -> None:
        """Start a call of `execute`: the outputs of the call before are no longer needed."""
        self.device.staging.begin_call()

    def run(self, requests: Sequence[Request]) -> dict[str, Value]:
        """Take one batch through the device and back.

        Args:
            requests: at least one; what they have in common is that their inputs can be collated.

        Returns:
            Tensors by name, contiguous, [B, ...] when the model batches, computed, valid until `begin_call`:
            on the host, or with `output_device` `instance` where `forward` and `postprocess` left them. BYTES
            are arrays on the host.

        Raises:
            Exception: what a hook raised, or `OutputError` for what it returned.

        Sync:
            Waits once for the device; on an error too, if anything is queued. Not after a fault: a wait would
            only raise over it, and no buffer is used again.
        """
        rows = [request.rows for request in requests]
        num_rows = None if rows[0] is None else sum(one or 0 for one in rows)
        staging, padding = self.device.staging, self._plan.padding
        num_in, num_out = staging.statistics.bytes_in, staging.statistics.bytes_out
        stopwatch = Stopwatch(self.counters)
        with self.device.batch(), RequestScope(requests):
            parts, texts = self._collator.parts(requests)
            outputs: dict[str, Any] | None = None if texts else self._graphs.run(parts, num_rows)
            if outputs is None:
                inputs = {name: staging.put(tensors) for name, tensors in parts.items()}
                extras = self._extras(requests)
                stopwatch.lap("copy_in")
            with torch.inference_mode():
                if outputs is None:
                    outputs = self._forward(inputs, texts, extras)
                stopwatch.lap("forward")
                finished = self._output_stage.finish(outputs, requests, num_rows)
            if padding is not None:
                padding.cuts(finished, requests)  # raises here, where a smaller batch is tried
            fetched = self._output_stage.fetch(finished)
            stopwatch.lap("copy_out")
        self.has_answered = True
        all_rows = len(requests) if num_rows is None else num_rows
        self.counters.add_batch(len(requests), all_rows, stopwatch.total())
        if not self.device.runtime.is_host:
            statistics = staging.statistics
            self.counters.add_bytes(statistics.bytes_in - num_in, statistics.bytes_out - num_out)
        return fetched

    def attempt(self, requests: Sequence[Request]) -> dict[str, Value] | Exception:
        """Do as `run` does, and return what was raised instead of raising it.

        When memory ran out, what was raised holds no tensors any more, what the device is still at work on is
        waited for, and memory that nobody uses is released, so that a smaller batch finds room.
        """
        try:
            return self.run(requests)
        except KeyboardInterrupt:  # of somebody who stops a test
            raise
        except BaseException as error:
            return self.device.health.caught(error)

    def stages(self) -> Iterator[Stage]:
        """List what a batch goes through. Rows are collated where they are put into the device's memory."""
        staging = self.device.staging
        yield Stage(COLLATE, self._collator, "parts")
        yield Stage(COLLATE if self.device.runtime.is_host else COPY_IN, staging, "put")
        yield Stage(FORWARD, self, "_forward")
        if self._plan.settings.cuda_graphs:
            yield Stage(FORWARD, self._graphs, "run")
        yield Stage(POSTPROCESS, self._output_stage, "finish")
        yield Stage(COPY_OUT, self._output_stage, "fetch")

    def record_graph(self, request: Request) -> str | None:
        """Record a CUDA graph of `forward` for the rows of a request, which must have been run before.

        Returns:
            None; or why batches of this size run without a graph.

        Sync:
            Host with device.
        """
        with self.device.batch():
            return self._graphs.capture(self._collator.parts([request])[0], request.rows or 0)

    def _extras(self, requests: Sequence[Request]) -> dict[str, Any]:
        """Return what `forward` gets beside its inputs; tensors among it lie on the device."""
        if not self._plan.hooks.call.extras:
            return {}
        put = self.device.staging.put
        lengths = {name: put([one]) for name, one in self._collator.lengths(requests).items()}
        requests_argument = self._hook_requests.argument("forward", requests)
        return {**requests_argument, **self._collator.lengths_argument(lengths)}

    def _compute(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        with torch.inference_mode():
            return self._forward(inputs, {}, {})

    def _forward(
        self,
        inputs: Mapping[str, torch.Tensor],
        texts: Mapping[str, BytesArray],
        extras: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Convert the inputs and run `forward`, in inference mode.

        The inputs were collated outside of it: torch.compile tells tensors that were made in inference mode
        from others, so it would compile once for batches of one request and again for all others.
        """
        plan = self._plan
        prepared: dict[str, Value] = {**inputs, **texts}
        if self._converts:
            for name, tensor in inputs.items():
                prepared[name] = prepare_input(tensor, plan.settings, plan.precision)
        with plan.precision.scope(self.device.runtime.device):
            return name_outputs(
                plan.hooks.call(plan.hooks.forward, prepared, **extras), plan.spec, plan.spec.hook
            )
