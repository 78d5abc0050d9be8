"""`RequestReader`: converts Triton's requests to the library's."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from kindaware._batch.request import HostArray, Request
from kindaware._batch.results import Failure, Reporter
from kindaware._config.model_spec import ModelSpec
from kindaware._device.runtime import Runtime
from kindaware._errors import describe, message
from kindaware._tensors.bytes_arrays import Value
from kindaware._triton.request import TritonRequest, read_info, read_sequence, readable_id


def is_cancelled(asked: Any) -> bool:
    """Return what a request, or its response sender, says; False where the question fails.

    An error of the question says nothing about the client, who gets the answer then.
    """
    try:
        return bool(asked.is_cancelled())
    except Exception:
        return False


class RequestReader:
    """Reads Triton's requests.

    Args:
        spec: spec of the model.
        runtime: the runtime of the device.
        reporter: reports requests that can't be read, though it is not for their clients to correct them.
        reads_info: whether a `RequestInfo` is read from each request.
    """

    def __init__(
        self, spec: ModelSpec, runtime: Runtime, reporter: Reporter, *, reads_info: bool = False
    ) -> None:
        self._reporter = reporter
        self._runtime = runtime
        self._batches = spec.batches
        self._reads_info = reads_info
        self._no_numpy = {tensor.name for tensor in spec.inputs if tensor.dtype.numpy is None}
        self._no_torch = {tensor.name for tensor in spec.inputs if tensor.dtype.torch is None}
        self._has_sequences = spec.sequences is not None
        if spec.sequences is not None:
            self._no_torch |= spec.sequences.controls
        self._may_be_on_gpu = spec.may_get_gpu_inputs
        # Decided once: a single plain input is read without asking for its name or device.
        is_plain = not (self._no_numpy or self._no_torch or self._may_be_on_gpu)
        self._only_input = spec.inputs[0].name if is_plain and len(spec.inputs) == 1 else None
        self._keeps_arrays = runtime.is_host and spec.is_uniform
        self._model = spec.name

    def read_arrays(self, requests: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
        """Read only the input of each request, of a model that has a single one.

        Returns:
            Arrays that are views of memory that Triton owns.

        Raises:
            Exception: a request has another number of inputs, or one that can't be read.
        """
        arrays = []
        for request in requests:
            # Unpacking also checks that there is exactly one.
            (tensor,) = request.inputs()
            arrays.append(tensor.as_numpy())
        return arrays

    def read(self, requests: Sequence[Any], *, asks_for_cancelled: bool = False) -> list[Request | Failure]:
        """Read the requests of one call; their tensors are views of memory that Triton owns.

        Args:
            requests: the requests that Triton passes.
            asks_for_cancelled: whether to ask for each request if it was cancelled, and read it only if not.
                Each question is a call to the server's process, about 70 us.

        Returns:
            For each request, in order, the request as read; or a failure if it was cancelled or can't be
            read.

        Raises:
            Exception: the device has failed, which shows when a tensor on it is read.

        Sync:
            None: Triton has finished writing inputs before it calls `execute`.
        """
        arrived = time.monotonic()
        arrivals: list[Request | Failure] = []
        # Not a comprehension, which would release tensors while an exception is being handled.
        for request in requests:
            if asks_for_cancelled and is_cancelled(request):
                arrivals.append(self._cancelled(request))
                continue
            try:
                arrivals.append(self._read(request, arrived))
            except UnicodeDecodeError as error:
                text = "an id, parameters and a correlation id in UTF-8"
                arrivals.append(self._unreadable(request, describe(error), "INVALID_ARG", text))
            except Exception as error:
                # Raised by pb_utils for this request only, unless the device has failed.
                if self._runtime.is_fault(error):
                    raise
                (failure,) = self._reporter.fail(error, [readable_id(request)], "reading the request")
                arrivals.append(self._unread(request, failure.text, failure.code))
        return arrivals

    def _cancelled(self, request: Any) -> Failure:
        text = message(
            f"model {self._model!r} request {readable_id(request)!r}",
            expected="a client that waits for the answer",
            got="a request that was cancelled",
            remedy="send it again if it is wanted after all",
        )
        return self._unread(request, text, "CANCELLED")

    def _read(self, request: Any, arrived: float) -> Request | Failure:
        """Read one request; a failure if its inputs differ in their number of rows."""
        tensors = request.inputs()
        # Nothing but the array of a single plain input has to be asked for.
        rows: int | None = None
        if len(tensors) == 1 and self._only_input is not None:
            array = tensors[0].as_numpy()
            inputs: Mapping[str, Value]
            if self._keeps_arrays:
                inputs = HostArray(self._only_input, array)
            else:
                inputs = {self._only_input: torch.from_numpy(array)}
            if self._batches:
                rows = len(array)
        else:
            inputs = {tensor.name(): self._input(tensor) for tensor in tensors}
            if self._batches:
                sizes = {name: value.shape[0] if value.ndim else 0 for name, value in inputs.items()}
                if len(set(sizes.values())) != 1:
                    return self._unreadable(request, f"rows {sizes}" if sizes else "no inputs", "INVALID_ARG")
                rows = next(iter(sizes.values()))
        info = read_info(request, rows) if self._reads_info else None
        return TritonRequest(request, inputs, rows, info, arrived)

    def _input(self, tensor: Any) -> Value:
        """Return an input's value without copying it."""
        name = tensor.name()
        if name in self._no_torch:
            return tensor.as_numpy()  # type: ignore[no-any-return]  # an array
        if name in self._no_numpy or (self._may_be_on_gpu and not tensor.is_cpu()):
            return torch.utils.dlpack.from_dlpack(tensor)
        # A view of the array that the stub has created already; through DLPack it would first try and fail.
        return torch.from_numpy(tensor.as_numpy())

    def _unreadable(
        self,
        request: Any,
        got: str,
        code: str,
        expected: str = "inputs that can be read, all with the same number of rows",
    ) -> Failure:
        text = message(
            f"model {self._model!r} request {readable_id(request)!r}",
            expected=expected,
            got=got,
            remedy="correct the request",
        )
        return self._unread(request, text, code)

    def _unread(self, request: Any, text: str, code: str) -> Failure:
        return Failure(text, code, read_sequence(request) if self._has_sequences else None)
