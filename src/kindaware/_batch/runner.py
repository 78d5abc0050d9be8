"""One batch on the device: inputs copied there, `forward` run, outputs copied back."""

from __future__ import annotations

import functools
import time
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
from kindaware._batch.row_limit import largest_batch
from kindaware._batch.stages import COLLATE, COPY_IN, COPY_OUT, FORWARD, POSTPROCESS, Stage
from kindaware._device.cuda_graphs import Graphs
from kindaware._device.device import Device
from kindaware._device.modules import gradients_off, prepare_input
from kindaware._device.runtime import is_out_of_memory
from kindaware._device.staging import Note
from kindaware._errors import CallTooEarlyError, RequestError
from kindaware._hooks.blame import blame
from kindaware._hooks.interruption import stops_test
from kindaware._tensors.bytes_arrays import BytesArray, Value
from kindaware._tensors.rows import Output
from kindaware._tracebacks import ungrouped


class BatchRunner:
    """Runs batches on the device.

    Args:
        plan: plan of the instance.
        device: device of the instance.
        counters: counters to which each batch is added.

    Attributes:
        device: device of the instance.
        counters: counters of the instance.
        has_answered: whether any batch has ever succeeded.
        max_rows: most rows of a batch that clients' requests are put into; None for no limit of its own. The
            warm-up may measure it.
    """

    def __init__(self, plan: Plan, device: Device, counters: Counters) -> None:
        self.device = device
        self.counters = counters
        self.has_answered = False
        largest, _ = largest_batch(plan.spec, plan.settings)
        self.max_rows = largest if largest < plan.spec.max_batch_size else None
        self._plan = plan
        self._collator = Collator(plan, device.staging.land)
        self._hook_requests = HookRequests(plan.spec, plan.hooks)
        self._graphs = Graphs(device.runtime, device.staging, self._compute)
        self._output_stage = OutputStage(plan, device.staging)
        self._converts = plan.converts_inputs
        # When the outputs of the last batch were there, in seconds of `time.perf_counter`.
        self._done_at = 0.0

    def begin_call(self) -> None:
        """Start a call of `execute`: the outputs of the previous call are no longer needed."""
        self.device.staging.begin_call()

    def run(self, requests: Sequence[Request], note: Note | None = None) -> dict[str, Output]:
        """Run one batch on the device.

        Args:
            requests: at least one; their inputs must be of shapes that can be collated.
            note: called with the seconds that the batch took, behind those before it; None for nothing. In a
                flight of the staging, when the call has been answered.

        Returns:
            Contiguous tensors by name, [B, ...] if the model batches, computed, valid until `begin_call`; in
            a flight, computed when that has landed, and valid until it is answered. They are on the host, or
            with `output_device` `instance` where `forward` and `postprocess` left them. BYTES are arrays on
            the host. An output may be a list of one value per request instead, [b, ...] each.

        Raises:
            Exception: what a hook raised, or `OutputError` for what it returned.

        Sync:
            Host with stream, once; after an error too, if anything is queued. Not in a flight, and not after
            a device fault: a wait would only raise another error, and no buffer is used again.
        """
        num_rows = None if requests[0].rows is None else sum(request.rows or 0 for request in requests)
        staging = self.device.staging
        num_in, num_out = staging.statistics.bytes_in, staging.statistics.bytes_out
        began, stopwatch = time.perf_counter(), Stopwatch(self.counters)
        with self.device.batch(), RequestScope(requests):
            parts, texts = self._collator.parts(requests)
            try:
                fetched = self._run(parts, texts, requests, num_rows, stopwatch)
            except Exception as error:
                if self._may_be_of_collate(error):
                    self._collator.blame(error, parts, texts, requests)
                raise
        self.has_answered = True
        self._collator.note_answered(parts, texts, requests)
        if not self.device.runtime.is_host:
            statistics = staging.statistics
            self.counters.add_bytes(statistics.bytes_in - num_in, statistics.bytes_out - num_out)
        all_rows = len(requests) if num_rows is None else num_rows
        num_requests = sum(not one.is_continued for one in requests)
        staging.then(functools.partial(self._count, num_requests, all_rows, began, note))
        return fetched

    def _count(self, num_requests: int, num_rows: int, began: float, note: Note | None, at: float) -> None:
        """Count a batch whose outputs were there at a time; it may have waited for the one before it."""
        seconds = at - max(began, self._done_at)
        self._done_at = at
        self.counters.add_batch(num_requests, num_rows, seconds)
        if note is not None:
            note(seconds)

    def _run(
        self,
        parts: Mapping[str, Sequence[torch.Tensor]],
        texts: Mapping[str, BytesArray],
        requests: Sequence[Request],
        num_rows: int | None,
        stopwatch: Stopwatch,
    ) -> dict[str, Output]:
        """Run `forward` and `postprocess` on collated inputs, and fetch what they returned."""
        # A graph copies the rows straight into the memory that it reads; BYTES can't be part of one.
        outputs: dict[str, Any] | None = None if texts else self._graphs.run(parts, num_rows)
        if outputs is None:
            inputs = {name: self.device.staging.put(tensors) for name, tensors in parts.items()}
            extras = self._extras(requests)
            stopwatch.lap("copy_in")
        # Only now; see `_forward` for why inputs are collated outside of it.
        with gradients_off(self._plan.settings):
            if outputs is None:
                outputs = self._forward(inputs, texts, extras)
            stopwatch.lap("forward")
            finished = self._output_stage.finish(outputs, requests)
        fetched = self._output_stage.fetch(self._unpadded(finished, requests))
        stopwatch.lap("copy_out")
        return fetched

    def _may_be_of_collate(self, error: Exception) -> bool:
        """Whether an error may come from what `collate` returned: neither a refusal nor of the device."""
        if isinstance(ungrouped(error), (RequestError, CallTooEarlyError)) or is_out_of_memory(error):
            return False
        return self._plan.hooks.collate is not None and not self.device.runtime.is_fault(error)

    def _unpadded(self, outputs: dict[str, Output], requests: Sequence[Request]) -> dict[str, Output]:
        """Check that outputs are as long as the padded inputs they follow, and cut those that stay here.

        Those that go to the host are cut there, behind one copy for the whole batch.
        """
        padding = self._plan.padding
        if padding is None:
            return outputs
        if self._plan.settings.keeps_outputs:
            return padding.cut(outputs, requests)
        padding.cuts(outputs, requests)
        return outputs

    def attempt(self, requests: Sequence[Request], note: Note | None = None) -> dict[str, Output] | Exception:
        """Run a batch like `run`, but return what was raised instead of raising it.

        If memory ran out, the returned error references no tensors and unused memory has been released, so
        that a smaller batch may fit.

        Sync:
            Host with stream, once; see `run`.
        """
        try:
            return self.run(requests, note)
        except BaseException as error:
            if stops_test(error):
                raise
            return self.device.health.caught(error)

    def stages(self) -> Iterator[Stage]:
        """Iterate over the stages of a batch, in order."""
        staging = self.device.staging
        # On the CPU, putting rows into the device's memory is nothing but concatenating them.
        yield Stage(COLLATE, self._collator, "parts")
        yield Stage(COLLATE if self.device.runtime.is_host else COPY_IN, staging, "put")
        yield Stage(FORWARD, self, "_forward")
        if self._plan.settings.cuda_graphs:
            yield Stage(FORWARD, self._graphs, "run")
        yield Stage(POSTPROCESS, self._output_stage, "finish")
        yield Stage(COPY_OUT, self._output_stage, "fetch")

    def record_graph(self, request: Request) -> str | None:
        """Capture a CUDA graph of `forward` for the batch size of a request, which has been run before.

        Returns:
            None on success; else why batches of this size run without a graph.

        Sync:
            Host with device.
        """
        with self.device.batch():
            return self._graphs.capture(self._collator.parts([request])[0], request.rows or 0)

    def _extras(self, requests: Sequence[Request]) -> dict[str, Any]:
        """Return the arguments of `forward` besides its inputs; tensors among them are on the device."""
        if not self._plan.hooks.call.extras:
            return {}
        put = self.device.staging.put
        lengths = {name: put([one]) for name, one in self._collator.lengths(requests).items()}
        requests_argument = self._hook_requests.argument("forward", requests)
        return {**requests_argument, **self._collator.lengths_argument(lengths)}

    def _compute(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Run `forward` for a CUDA graph, which has neither BYTES nor further arguments."""
        with gradients_off(self._plan.settings):
            return self._forward(inputs, {}, {})

    def _forward(
        self,
        inputs: Mapping[str, torch.Tensor],
        texts: Mapping[str, BytesArray],
        extras: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Convert the inputs and run `forward`. Called in inference mode, if the setting says so.

        The inputs must have been collated outside inference mode: torch.compile guards on whether a tensor
        was created in it. Those of a single request never are, since they are views of Triton's memory; if
        concatenated ones were, there would be one compilation for single requests and another for the rest.
        """
        plan = self._plan
        prepared: dict[str, Value] = {**inputs, **texts}
        if self._converts:
            for name, tensor in inputs.items():
                prepared[name] = prepare_input(tensor, plan.settings, plan.precision)
        with plan.precision.scope(self.device.runtime.device):
            try:
                returned = plan.hooks.call(plan.hooks.forward, prepared, **extras)
            except BaseException as error:
                blame(error, plan.spec.hook)
                raise
            return name_outputs(returned, plan.spec, plan.spec.hook)
