"""`TritonAdapter`: converts Triton's requests to the library's, and results to Triton's responses."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch

from kindaware._batch.request import HostArray, Request
from kindaware._batch.results import Failure, Result, Tensors, refusal_of
from kindaware._config.model_spec import ModelSpec
from kindaware._device.runtime import Runtime
from kindaware._errors import RequestError, describe, message
from kindaware._tensors.bytes_arrays import Value
from kindaware._tensors.dtypes import NO_NUMPY
from kindaware._tensors.rows import Answer
from kindaware._triton.module import is_stand_in
from kindaware._triton.parameters import check_parameters, require_response_parameters
from kindaware._triton.request import TritonRequest, read_info, read_sequence, readable_id


def is_cancelled(asked: Any) -> bool:
    """Return what a request, or its response sender, says; False where the question fails.

    An error of the question says nothing about the client, who gets the answer then.
    """
    try:
        return bool(asked.is_cancelled())
    except Exception:
        return False


class TritonAdapter:
    """Reads Triton's requests and builds its responses.

    Args:
        pb_utils: Triton's module, or a stand-in.
        spec: spec of the model.
        runtime: the runtime of the device, for outputs that stay there.
        reads_info: whether a `RequestInfo` is read from each request.

    Attributes:
        new_response: `pb_utils.InferenceResponse`.
        new_tensor: `pb_utils.Tensor`.
    """

    def __init__(
        self, pb_utils: ModuleType, spec: ModelSpec, runtime: Runtime, *, reads_info: bool = False
    ) -> None:
        self._pb_utils = pb_utils
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
        self._names = [tensor.name for tensor in spec.outputs]
        self._model = spec.name
        self.new_response = pb_utils.InferenceResponse
        self.new_tensor = pb_utils.Tensor

    @property
    def is_stand_in(self) -> bool:
        """Whether Triton's module is a stand-in, without a server."""
        return is_stand_in(self._pb_utils)

    def load_model(self, name: str, config: str) -> None:
        """Make the server load a model with this configuration, or reload it if it is loaded.

        Args:
            name: name of the model.
            config: the model configuration as JSON text.

        Raises:
            Exception: the server refused, or the model failed to load.

        Sync:
            Until the model is loaded, with the GIL held. Source: measured on tritonserver 2.51.0.
        """
        self._pb_utils.load_model(name, config=config)

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
                arrivals.append(self._unreadable(request, describe(error), "INTERNAL"))
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

    def respond(self, requests: Sequence[Any], results: Sequence[Result]) -> list[Any]:
        """Build one response per request, in order, with the outputs that it requested.

        A response that can't be built is replaced by an error.

        Raises:
            Exception: the device has failed, which shows when a tensor on it is wrapped.
        """
        responses = []
        batch: Tensors | None = None
        new_response, names = self._pb_utils.InferenceResponse, self._names
        for request, result in zip(requests, results, strict=True):
            if isinstance(result, Failure):
                responses.append(self.refuse(result))
                continue
            try:
                # An empty list of requested outputs means all of them, so a single one is always requested.
                requested = names if len(names) == 1 else request.requested_output_names()
                if isinstance(result, Answer):
                    # The outputs of a batch are converted once, and then sliced for each of its requests.
                    if result.batch is not batch:
                        wholes = [(name, *self._wrapper(result.batch[name])) for name in names]
                        # Only now: if the line above raises, `wholes` still belongs to the previous batch.
                        batch = result.batch
                    rows = result.rows
                    tensors = []
                    for name, whole, wrap in wholes:
                        if name in requested:
                            tensors.append(wrap(name, whole[rows]))
                    responses.append(new_response(tensors))
                else:
                    responses.append(self.answer(result, requested))
            except Exception as error:
                # Raised by pb_utils for this request only, unless the device has failed.
                if self._runtime.is_fault(error):
                    raise
                text = f"model {self._model!r}: response not built, {describe(error)}"
                responses.append(self.refuse(Failure(text, "INTERNAL")))
        return responses

    def add_parameters(
        self,
        responses: list[Any],
        results: Sequence[Result],
        arrivals: Sequence[Request | Failure],
        requests: Sequence[Any],
    ) -> list[str]:
        """Rebuild the responses for which a hook has set `response_parameters`; errors have none.

        Args:
            responses: the responses of one call; replaced in place.
            results: the results that they were built from.
            arrivals: the requests as read.
            requests: the requests that Triton passed.

        Returns:
            The error codes of the responses that became errors, because their parameters can't be sent.
        """
        codes = []
        for index, (arrival, result) in enumerate(zip(arrivals, results, strict=True)):
            info = arrival.info if isinstance(arrival, Request) else None
            if info is None or not info.response_parameters or isinstance(result, Failure):
                continue
            try:
                requested = requests[index].requested_output_names()
                responses[index] = self.answer(result, requested, info.response_parameters)
                continue
            except RequestError as error:
                failure = refusal_of(error)
            except Exception as error:  # of pb_utils, for values of another type
                text = f"request {info.id!r} response_parameters: response not built, {describe(error)}"
                failure = Failure(text, "INTERNAL")
            responses[index] = self.refuse(failure)
            codes.append(failure.code)
        return codes

    def answer(
        self, outputs: Tensors, requested: Collection[str], parameters: Mapping[str, Any] | None = None
    ) -> Any:
        """Build a response with the requested outputs, and with parameters if there are any.

        Args:
            outputs: contiguous tensors and arrays by name.
            requested: names of the outputs to send.
            parameters: parameters of the response; None or empty for none.

        Raises:
            RequestError: there are parameters, and the server doesn't support them.
            Exception: raised by pb_utils, or the device has failed.
        """
        tensors = [self._tensor(name, outputs[name]) for name in self._names if name in requested]
        if not parameters:
            return self._pb_utils.InferenceResponse(tensors)
        require_response_parameters(self._pb_utils, self._model)
        check_parameters(parameters, f"model {self._model!r} response_parameters")
        return self._pb_utils.InferenceResponse(tensors, parameters=dict(parameters))

    def refuse(self, failure: Failure) -> Any:
        """Build a response with an error."""
        # pybind11 refuses text that can't be encoded as UTF-8, and the client's text ends at a NUL.
        text = failure.text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
        triton_error = self._pb_utils.TritonError
        return self._pb_utils.InferenceResponse(error=triton_error(text, getattr(triton_error, failure.code)))

    def reschedule(self, request: Any) -> None:
        """Set the flag for rescheduling a request; `execute` must return None for it."""
        request.set_release_flags(self._pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)

    def land(self, values: Iterable[object]) -> None:
        """Wait if any of a call's inputs is a tensor on the host, whose copy may only be queued yet.

        Sync:
            Host with stream, if there is such a tensor and the instance is on a GPU.
        """
        if any(isinstance(one, torch.Tensor) and one.device.type == "cpu" for one in values):
            self._runtime.wait_for_host_memory()

    def new_call(self, model: str, inputs: Mapping[str, Any], *, trace: Any, **options: Any) -> Any:
        """Build a request to another model, whose outputs should lie on this instance's device.

        Args:
            model: name of the other model.
            inputs: contiguous tensors and arrays by name.
            trace: Triton's trace object; None for none.
            options: `requested_outputs`, and keyword arguments of `pb_utils.InferenceRequest`.
        """
        if trace is not None:
            options["trace"] = trace
        if self._runtime.device.type == "cuda":
            memory = self._pb_utils.TRITONSERVER_MEMORY_GPU
            options["preferred_memory"] = self._pb_utils.PreferredMemory(memory, self._runtime.device.index)
        return self._pb_utils.InferenceRequest(
            model_name=model,
            inputs=[self._tensor(name, value) for name, value in inputs.items()],
            requested_output_names=options.pop("requested_outputs"),
            **options,
        )

    def read_outputs(self, response: Any) -> dict[str, Value]:
        """Copy the outputs in another model's response to this instance's device.

        Returns:
            Tensors by name; BYTES as arrays of dtype object.

        Raises:
            RequestError: the response is an error.

        Sync:
            Host with stream: Triton reclaims the memory of outputs on a GPU, so copies of them have finished
            when this returns, or raises because a later output can't be read. Not after a device fault.
        """
        if response.has_error():
            error = response.error()
            raise RequestError(error.message(), code=error.code().name)
        with self._runtime.scope():
            # The wait comes before the response is released, and with it the memory that is being copied.
            try:
                outputs = {tensor.name(): self._value(tensor) for tensor in response.output_tensors()}
            except BaseException as error:
                if not self._runtime.is_fault(error):
                    self._runtime.wait()
                raise
            self._runtime.wait()
        return outputs

    def _value(self, tensor: Any) -> Value:
        """Return an output of another model, on this instance's device."""
        # A copy even if it is there already, since the memory is Triton's.
        if not tensor.is_cpu():
            return torch.utils.dlpack.from_dlpack(tensor).to(self._runtime.device, copy=True)
        try:
            array = tensor.as_numpy()
        except self._pb_utils.TritonModelException:
            # BF16, for which numpy has no dtype.
            return torch.utils.dlpack.from_dlpack(tensor).to(self._runtime.device)
        return array if array.dtype == object else torch.from_numpy(array).to(self._runtime.device)

    def _tensor(self, name: str, tensor: Value) -> Any:
        memory, wrap = self._wrapper(tensor)
        return wrap(name, memory)

    def _wrapper(self, value: Value) -> tuple[Any, Callable[[str, Any], Any]]:
        """Return a contiguous value in the form in which Triton takes it, and the function that wraps it.

        The value, or a slice of it along dimension 0, is passed to the function together with a name.
        """
        # On the CPU Triton takes an array without copying it, and copies a tensor that comes by DLPack.
        if not isinstance(value, torch.Tensor):
            return value, self._pb_utils.Tensor
        if value.device.type != "cpu" or value.dtype in NO_NUMPY:
            return value, self._from_dlpack
        return value.numpy(), self._pb_utils.Tensor

    def _from_dlpack(self, name: str, tensor: torch.Tensor) -> Any:
        """Wrap a tensor as an object, never as a capsule, with the stream that computed it current.

        For an object the stub waits for that stream; for a capsule it doesn't.
        Source: python_backend `pb_tensor.cc`, PbTensor::FromDLPack.
        """
        with self._runtime.scope():
            return self._pb_utils.Tensor.from_dlpack(name, tensor)
