"""One batch: from the requests' tensors to the device, through `forward`, and to the answers' tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from logging import Logger
from typing import Any

import torch

from kindaware._batch.collate import Collator
from kindaware._batch.counters import Counters, Stopwatch
from kindaware._batch.graph_plan import refuse_extras
from kindaware._batch.outputs import check_outputs, name_outputs
from kindaware._batch.padding import Padding
from kindaware._batch.request import Request
from kindaware._batch.request_context import RequestScope
from kindaware._batch.results import Tensors
from kindaware._config.model_spec import ModelSpec
from kindaware._config.settings import Settings
from kindaware._device.cuda_graphs import Graphs
from kindaware._device.modules import Precision, converts_inputs, prepare_input
from kindaware._device.runtime import Runtime, is_out_of_memory
from kindaware._device.staging import Staging
from kindaware._errors import KindAwareError, describe, format_traceback, message, release_frames
from kindaware._hooks.binding import Hooks
from kindaware._tensors.bytes_arrays import BytesArray, Value
from kindaware._tensors.rows import split


class BatchRunner:
    """Takes batches through the device.

    Args:
        spec: the model.
        settings: its settings.
        hooks: the user's part.
        runtime: the device.
        staging: the way there and back.
        logger: told when the device has failed.

    Attributes:
        fault: the error after which the device is unusable; None while all is well.
        is_host: whether tensors of the device are host memory.
        has_answered: whether a batch has ever come back.
        counters: what was done so far.
        padding: how requests of different sizes come together; None where they don't.
    """

    def __init__(
        self,
        spec: ModelSpec,
        settings: Settings,
        hooks: Hooks,
        runtime: Runtime,
        staging: Staging,
        logger: Logger,
    ) -> None:
        self.fault: str | None = None
        self.is_host = runtime.is_host
        self.has_answered = False
        self.counters = Counters()
        self.padding = Padding.plan(spec, settings, hooks)
        self._collator = Collator(spec, hooks, self.padding)
        self._spec = spec
        self._settings = settings
        self._hooks = hooks
        self._runtime = runtime
        self._staging = staging
        self._logger = logger
        refuse_extras(spec, settings, hooks)
        self._graphs = Graphs(runtime, staging, self._compute)
        self._precision = Precision.of(settings.precision)
        self._converts = converts_inputs(settings, self._precision)
        self._text_outputs = [output.name for output in spec.outputs if output.dtype.torch is None]

    def begin_call(self) -> None:
        """Start a call of `execute`: the outputs of the call before are no longer needed."""
        self._staging.begin_call()

    def preprocess(self, request: Request) -> Request:
        """Run the user's `preprocess` on one request, with the device and stream current and no gradients.

        Not in inference mode; see `_forward`.

        Raises:
            OutputError: it returned what `forward` can't take.
        """
        if self._hooks.preprocess is None:
            return request
        with self._runtime.scope(), torch.no_grad(), RequestScope([request]):
            try:
                extras = self._collator.requests_for("preprocess", [request])
                inputs = self._collator.check(self._hooks.preprocess(dict(request.inputs), **extras), request)
            except Exception as error:
                # No batch will wait for what it queued; Triton may take the inputs back when execute returns.
                if not self._runtime.is_fault(error):
                    self._runtime.wait()
                raise
        return request.with_inputs(inputs)

    def run(self, requests: Sequence[Request]) -> dict[str, Value]:
        """Take one batch through the device and back.

        Args:
            requests: at least one; what they have in common is that their inputs can be joined.

        Returns:
            Tensors by name, contiguous, [B, ...] when the model batches, computed, valid until `begin_call`:
            on the host, or with `output_device` `instance` where `forward` and `postprocess` left them. BYTES
            are arrays on the host.

        Sync:
            Waits once for the device; on an error too, if anything is queued. Not after a fault: a wait would
            only raise over it, and no buffer is used again.
        """
        rows = [request.rows for request in requests]
        num_rows = None if rows[0] is None else sum(one or 0 for one in rows)
        statistics = self._staging.statistics
        num_in, num_out = statistics.bytes_in, statistics.bytes_out
        stopwatch = Stopwatch(self.counters)
        with self._batch(), RequestScope(requests):
            parts, texts = self._collator.parts(requests)
            outputs: dict[str, Any] | None = None if texts else self._graphs.run(parts, num_rows)
            if outputs is None:
                inputs = {name: self._staging.put(tensors) for name, tensors in parts.items()}
                extras = self._extras(requests)
                stopwatch.lap("copy_in")
            with torch.inference_mode():
                if outputs is None:
                    outputs = self._forward(inputs, texts, extras)
                stopwatch.lap("forward")
                finished = self._finish(outputs, requests, num_rows)
            if self.padding is not None:
                self.padding.cuts(finished, requests)  # raises here, where a smaller batch is tried
            fetched = self._fetch(finished)
            stopwatch.lap("copy_out")
        self.has_answered = True
        all_rows = len(requests) if num_rows is None else num_rows
        self.counters.add_batch(len(requests), all_rows, stopwatch.total())
        if not self.is_host:
            self.counters.add_bytes(statistics.bytes_in - num_in, statistics.bytes_out - num_out)
        return fetched

    def split(self, outputs: Tensors, requests: Sequence[Request]) -> Sequence[Tensors]:
        """Cut a batch's outputs into one answer per request, on the instance's stream if there."""
        if self.padding is None:
            return split(outputs, [request.rows for request in requests])
        if self._settings.output_device == "cpu":
            return self.padding.split(outputs, requests)
        with self._runtime.scope():
            return self.padding.split(outputs, requests)

    def _extras(self, requests: Sequence[Request]) -> dict[str, Any]:
        if not self._hooks.call.extras:
            return {}
        lengths = {name: self._staging.put([one]) for name, one in self._collator.lengths(requests).items()}
        return self._collator.extras(lengths, requests)

    def capture(self, requests: Sequence[Request]) -> list[int]:
        """Record a CUDA graph of `forward` for the rows of each request; each must have been run before.

        The largest comes first, so that the others find room in its memory.

        Returns:
            The rows for which there is a graph. Why there is none for the others is logged.

        Sync:
            Host with device.
        """
        refused: dict[str, list[int]] = {}
        recorded = []
        for request in sorted(requests, key=lambda one: one.rows or 0, reverse=True):
            num_rows = request.rows or 0
            with self._batch():
                reason = self._graphs.capture(self._collator.parts([request])[0], num_rows)
            if reason is None:
                recorded.append(num_rows)
            else:
                refused.setdefault(reason, []).append(num_rows)
        for reason, sizes in refused.items():
            text = message(
                f"model {self._spec.name!r} cuda_graphs batch size(s) {', '.join(map(str, sorted(sizes)))}",
                expected="a forward that can be captured",
                got=reason,
                remedy="these run without a graph; change forward, or set cuda_graphs to 'off'",
            )
            self._logger.warning("%s", text)
        return sorted(recorded)

    @contextlib.contextmanager
    def _batch(self) -> Iterator[None]:
        """Device and stream current, no gradients; what is queued is waited for, but not after a fault."""
        with self._runtime.scope(), torch.set_grad_enabled(False):
            try:
                self._staging.begin_forward()
                yield
            except BaseException as error:
                if not self._runtime.is_fault(error):
                    self._staging.settle()
                raise
            self._staging.settle()

    def _fetch(self, outputs: Mapping[str, Value]) -> dict[str, Value]:
        """Bring tensors to where the answers need them; BYTES are there, in arrays of the answers' own."""
        texts = {name: outputs[name] for name in self._text_outputs}
        tensors: Any = {name: one for name, one in outputs.items() if name not in texts} if texts else outputs
        fetched: dict[str, Any] = self._staging.fetch(tensors)
        fetched.update(texts)  # into the same mapping, since the staging may change it later
        return fetched

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

        The inputs were joined outside of it: torch.compile tells tensors that were made in inference mode
        from others, so it would compile once for batches of one request and again for all others.
        """
        hooks = self._hooks
        prepared: dict[str, Value] = {**inputs, **texts}
        if self._converts:
            for name, tensor in inputs.items():
                prepared[name] = prepare_input(tensor, self._settings, self._precision)
        with self._precision.scope(self._runtime.device):
            return name_outputs(hooks.call(hooks.forward, prepared, **extras), self._spec)

    def _finish(
        self, outputs: dict[str, Any], requests: Sequence[Request], num_rows: int | None
    ) -> dict[str, Value]:
        """Run `postprocess`, and bring the outputs into the form that is declared; in inference mode."""
        if self._hooks.postprocess is not None:
            extras = self._collator.requests_for("postprocess", requests)
            outputs = name_outputs(self._hooks.postprocess(outputs, **extras), self._spec)
        return check_outputs(
            outputs,
            self._spec,
            num_rows=num_rows,
            cast=self._settings.cast_outputs,
            computed_dtype=self._precision.dtype,
        )

    def attempt(self, requests: Sequence[Request]) -> dict[str, Value] | Exception:
        """Do as `run` does, and give what was raised instead of raising it.

        What was raised holds no tensors any more. When memory ran out, what the device is still at work on
        is waited for, and memory that nobody uses is handed back, so that a smaller batch finds room.
        """
        try:
            return self.run(requests)
        except (Exception, SystemExit) as error:
            return self.caught(error)

    def caught(self, error: Exception | SystemExit) -> Exception:
        """Give what a forward raised as `attempt` does; memory that ran out is waited for as there."""
        if isinstance(error, SystemExit):  # of a library that takes a server for a program
            left = KindAwareError(f"forward ended the process: SystemExit({error.code!r})")
            left.__cause__ = error
            return left
        try:
            self.recover(error)
        except Exception as other:  # of the device
            error = other
        self.note_fault(error)
        return error

    def recover(self, error: Exception) -> None:
        """Let go of the tensors that a hook's error holds, and of memory when that ran out.

        Sync:
            Host with stream, when memory ran out.
        """
        release_frames(error)
        if is_out_of_memory(error):
            self._runtime.wait()
            self._runtime.release_memory()

    def note_fault(self, error: Exception) -> bool:
        """Whether the error leaves the device unusable; the first one is kept in `fault`, and logged."""
        if not self._runtime.is_fault(error):
            return False
        if self.fault is None:
            self.fault = describe(error)
            self._logger.error("%s\n%s", self.unavailable(), format_traceback(error))
        return True

    def unavailable(self) -> str:
        """Say what every client gets to read after a fault."""
        return message(
            f"model {self._spec.name!r}",
            expected="a working device",
            got=f"{self._runtime.device} after {self.fault}",
            remedy="unload and load the model, or restart the server: its process has lost the device",
        )
