"""The short way for the plainest models on the CPU: a whole call of `execute` as one batch, in few lines.

The forward before has emptied the processor's caches, so each further function costs more than when it is
called over and over. What goes wrong here is left to the long way, which knows what to do about it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from kindaware._batch.outputs import check_outputs, name_outputs
from kindaware._batch.request_context import RequestContexts, reset_contexts, set_contexts
from kindaware._batch.runner import BatchRunner
from kindaware._config.model_spec import ModelSpec
from kindaware._config.settings import Settings
from kindaware._device.modules import Precision, converts_inputs
from kindaware._hooks.binding import Hooks
from kindaware._tensors.bytes_arrays import Value
from kindaware._tensors.rows import split
from kindaware._triton.adapter import TritonAdapter

_Array = np.ndarray[Any, Any]


class FastPath:
    """Answers calls of a model for which `suits` holds.

    Args:
        adapter: where Triton's objects come from.
        spec: the model.
        settings: its settings.
        hooks: the user's part.
        runner: the long way through the device, which shares its counters.
    """

    def __init__(
        self, adapter: TritonAdapter, spec: ModelSpec, settings: Settings, hooks: Hooks, runner: BatchRunner
    ) -> None:
        self._adapter = adapter
        self._spec = spec
        self._cast = settings.cast_outputs
        self._hook, self._call = hooks.forward, hooks.call
        self._runner = runner
        self._input = spec.inputs[0].name
        self._output = spec.outputs[0].name
        self._row_shape = tuple(spec.outputs[0].shape)
        self._inference_mode = torch.inference_mode()
        self._dtype = np.dtype(spec.outputs[0].dtype.numpy)

    @staticmethod
    def suits(spec: ModelSpec, settings: Settings, hooks: Hooks, *, is_host: bool) -> bool:
        """Whether there is nothing to do for the model but to read, join, run forward and cut rows.

        So: on the CPU, one input and one output of numbers that numpy has, rows that can always be joined, no
        hook but `forward`, which gets nothing beside the input, full precision, and no conversion.
        """
        if not (is_host and spec.is_uniform) or spec.decoupled or spec.sequences is not None:
            return False
        tensors = (*spec.inputs, *spec.outputs)
        are_plain = all(None not in (one.dtype.torch, one.dtype.numpy) for one in tensors)
        other_hooks = (hooks.preprocess, hooks.collate, hooks.postprocess)
        has_more = bool(hooks.call.extras or settings.pad) or any(one is not None for one in other_hooks)
        precision = Precision.of(settings.precision)
        converts = precision.dtype is not None or converts_inputs(settings, precision)
        return len(spec.inputs) == len(spec.outputs) == 1 and are_plain and not (has_more or converts)

    def answer(self, requests: Sequence[Any]) -> list[Any] | Exception | None:
        """Answer all requests of one call with one forward.

        Args:
            requests: as Triton hands them over.

        Returns:
            One response per request, in order; or what forward raised, with no tensors in it any more; or
            None where requests can't be read or joined, and nothing has been done.
        """
        started = time.monotonic()
        try:
            arrays = self._read(requests)
            read = time.monotonic()
            rows = self._join(arrays)
        except Exception:  # of pb_utils or of numpy; the long way reads again, and finds whose it is
            return None
        joined = time.monotonic()
        contexts = RequestContexts(requests, started)
        token = set_contexts(contexts)
        try:
            with self._inference_mode:
                returned = self._forward(rows)
                computed = time.monotonic()
                outputs = self._check(returned, len(rows))
        except (Exception, SystemExit) as error:
            return self._runner.caught(error)
        finally:
            reset_contexts(token)
            contexts.end()
        checked = time.monotonic()
        responses = self._respond(requests, arrays, outputs)
        runner = self._runner
        runner.has_answered = True
        counters = runner.counters
        counters.add_batch(len(requests), len(rows), checked - read)
        seconds = counters.seconds
        seconds["gather"] += read - started
        seconds["copy_in"] += joined - read
        seconds["forward"] += computed - joined
        seconds["copy_out"] += checked - computed
        seconds["scatter"] += time.monotonic() - checked
        return responses

    def _read(self, requests: Sequence[Any]) -> list[_Array]:
        """Give views of memory that Triton owns."""
        arrays = []
        for request in requests:
            (tensor,) = request.inputs()
            arrays.append(tensor.as_numpy())
        return arrays

    def _join(self, arrays: list[_Array]) -> torch.Tensor:
        """Join the rows; those of a single request are not copied."""
        return torch.from_numpy(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))

    def _forward(self, rows: torch.Tensor) -> Any:
        return self._call(self._hook, {self._input: rows})

    def _check(self, returned: Any, num_rows: int) -> _Array | dict[str, Value]:
        """Give what forward returned as an array, if that is all there is to do; or checked and named."""
        if type(returned) is torch.Tensor:
            try:
                array: _Array = returned.numpy()
            except (RuntimeError, TypeError):  # a gradient, another device, a layout of its own, BF16
                pass
            else:
                fits = array.shape == (num_rows, *self._row_shape) and array.dtype == self._dtype
                if fits and array.flags.c_contiguous:
                    return array
        outputs = name_outputs(returned, self._spec)
        return check_outputs(outputs, self._spec, num_rows=num_rows, cast=self._cast, computed_dtype=None)

    def _respond(
        self, requests: Sequence[Any], arrays: list[_Array], outputs: _Array | dict[str, Value]
    ) -> list[Any]:
        """Build the responses; Triton takes no outputs for all of them, so of one there is nothing to ask."""
        if isinstance(outputs, np.ndarray):
            responses = []
            adapter, name = self._adapter, self._output
            new_response, new_tensor = adapter.new_response, adapter.new_tensor
            start = 0
            try:
                for array in arrays:
                    stop = start + len(array)
                    responses.append(new_response([new_tensor(name, outputs[start:stop])]))
                    start = stop
                return responses
            except Exception:  # of pb_utils; the long way finds whose it is
                outputs = {name: torch.from_numpy(outputs)}
        return self._adapter.respond(requests, split(outputs, [len(array) for array in arrays]))
