"""The fast path of plain models on the CPU: a whole call of `execute` as one batch, in few function calls.

The previous forward has evicted the interpreter from the CPU's caches, so each function call costs more here
than in a loop. Errors are left to the pipeline.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from kindaware._batch.outputs import check_outputs, name_outputs
from kindaware._batch.plan import Plan
from kindaware._batch.request_context import reset_contexts, set_contexts
from kindaware._batch.runner import BatchRunner
from kindaware._batch.stages import BATCH, COLLATE, FORWARD, POSTPROCESS, READ, RESPOND, Stage
from kindaware._config.settings import FAST_PATH_SETTINGS
from kindaware._device.modules import gradients_off
from kindaware._hooks.interruption import stops_test
from kindaware._tensors.rows import Output, split
from kindaware._triton.adapter import TritonAdapter
from kindaware._triton.request import RequestContexts

_Array = np.ndarray[Any, Any]


class FastPath:
    """Answers calls of a model for which `suits` returns True.

    Args:
        plan: plan of the instance.
        adapter: reads requests and builds responses.
        runner: the runner of the pipeline, whose counters are shared.
    """

    def __init__(self, plan: Plan, adapter: TritonAdapter, runner: BatchRunner) -> None:
        self._reader = adapter.requests
        self._responses = adapter.responses
        self._runner = runner
        self._spec = plan.spec
        self._casts = plan.settings.cast_outputs
        self._hook, self._call = plan.hooks.forward, plan.hooks.call
        self._input = plan.spec.inputs[0].name
        self._output = plan.spec.outputs[0].name
        self._row_shape = tuple(plan.spec.outputs[0].shape)
        self._dtype = np.dtype(plan.spec.outputs[0].dtype.numpy)
        # Created once and entered anew by each call, which saves creating one.
        self._gradients_off = gradients_off(plan.settings)

    @staticmethod
    def suits(plan: Plan, *, is_host: bool) -> bool:
        """Whether a call only has to be read, concatenated, passed to `forward` and split.

        That is: on the CPU, with one input and one output of data types that numpy has, rows that can always
        be concatenated, no hook but `forward`, which gets nothing but the input, and no changed setting but
        those in `FAST_PATH_SETTINGS`.
        """
        spec = plan.spec
        if not (is_host and spec.is_uniform and plan.hooks.is_plain):
            return False
        if spec.decoupled or spec.sequences is not None or plan.settings.changed() - FAST_PATH_SETTINGS:
            return False
        tensors = (*spec.inputs, *spec.outputs)
        has_numpy = all(None not in (one.dtype.torch, one.dtype.numpy) for one in tensors)
        return len(spec.inputs) == len(spec.outputs) == 1 and has_numpy

    def answer(self, requests: Sequence[Any]) -> list[Any] | Exception | None:
        """Answer all requests of one call with one forward.

        Args:
            requests: the requests that Triton passes.

        Returns:
            One response per request, in order; or what `forward` raised, holding no tensors; or None if
            requests can't be read or concatenated, or have too many rows for one forward, in which case
            nothing has been done.
        """
        started = time.monotonic()
        # The pipeline reads again, and finds out which request is at fault.
        try:
            arrays = self._reader.read_arrays(requests)
            read = time.monotonic()
            rows = self._concat(arrays)
        except Exception:
            return None
        # More rows than one forward gets: the pipeline divides them.
        if self._runner.max_rows is not None and len(rows) > self._runner.max_rows:
            return None
        joined = time.monotonic()
        # What RequestScope does, without a context manager; the contexts are read if `forward` needs them.
        contexts = RequestContexts(requests, started)
        token = set_contexts(contexts)
        try:
            with self._gradients_off:
                returned = self._forward(rows)
                computed = time.monotonic()
                outputs = self._check(returned, len(rows), arrays)
        except BaseException as error:
            if stops_test(error):
                raise
            return self._runner.device.health.caught(error)
        finally:
            reset_contexts(token)
            contexts.end()
        checked = time.monotonic()
        responses = self._respond(requests, arrays, outputs)
        counters = self._runner.counters
        counters.add_batch(len(requests), len(rows), checked - read)
        seconds = counters.seconds
        seconds["read"] += read - started
        seconds["copy_in"] += joined - read
        seconds["forward"] += computed - joined
        seconds["copy_out"] += checked - computed
        seconds["respond"] += time.monotonic() - checked
        return responses

    def stages(self) -> Iterator[Stage]:
        """Iterate over the stages of a call on the fast path; `respond` includes splitting the rows."""
        yield Stage(BATCH, self, "answer", lambda requests: requests)
        yield Stage(READ, self._reader, "read_arrays")
        yield Stage(COLLATE, self, "_concat")
        yield Stage(FORWARD, self, "_forward")
        yield Stage(POSTPROCESS, self, "_check")
        yield Stage(RESPOND, self, "_respond")

    def _concat(self, arrays: list[_Array]) -> torch.Tensor:
        """Concatenate the rows, [b, ...] each; those of a single request are not copied."""
        return torch.from_numpy(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))

    def _forward(self, rows: torch.Tensor) -> Any:
        return self._call(self._hook, {self._input: rows})

    def _check(self, returned: Any, num_rows: int, arrays: list[_Array]) -> _Array | dict[str, Output]:
        """Return what `forward` returned: as an array if it needs no conversion, else checked and named.

        Raises:
            OutputError: an output doesn't match the configuration.
        """
        # Not a subclass, whose numpy() may do anything.
        if type(returned) is torch.Tensor:
            # numpy() refuses gradients, other devices, sparse layouts, lazy negation and BF16: one attempt
            # is cheaper than asking for each, and the checks below say which it was.
            try:
                array: _Array = returned.numpy()
            except (RuntimeError, TypeError):
                pass
            else:
                fits = array.shape == (num_rows, *self._row_shape) and array.dtype == self._dtype
                if fits and array.flags.c_contiguous:
                    return array
        spec = self._spec
        outputs = name_outputs(returned, spec, spec.hook)
        return check_outputs(
            outputs,
            spec,
            rows=[len(one) for one in arrays],
            cast=self._casts,
            computed_dtype=None,
            hook=spec.hook,
        )

    def _respond(
        self, requests: Sequence[Any], arrays: list[_Array], outputs: _Array | dict[str, Output]
    ) -> list[Any]:
        """Build one response per request, each with the request's rows of the batch's output."""
        # The requested outputs aren't read: an empty list means all of them, and there is only one.
        if isinstance(outputs, np.ndarray):
            responses = []
            builder, name = self._responses, self._output
            new_response, new_tensor = builder.new_response, builder.new_tensor
            start = 0
            try:
                for array in arrays:
                    stop = start + len(array)
                    responses.append(new_response([new_tensor(name, outputs[start:stop])]))
                    start = stop
                return responses
            except Exception:
                # One response could not be built; `respond` builds them one by one and finds out which.
                outputs = {name: torch.from_numpy(outputs)}
        return self._responses.respond(requests, split(outputs, [len(array) for array in arrays]))
