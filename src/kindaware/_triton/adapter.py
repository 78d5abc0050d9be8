"""Between Triton's objects and the library's: requests are read, responses are built."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
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
from kindaware._tensors.rows import Answer
from kindaware._triton.module import is_stand_in, require_response_parameters
from kindaware._triton.request import TritonRequest, read_info, read_sequence, readable_id


class TritonAdapter:
    """Reads Triton's requests and builds its responses.

    Args:
        pb_utils: Triton's module, or a stand-in.
        spec: the model.
        runtime: the device, for outputs that stay there.
        reads_info: read what requests say about themselves too.

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
        is_plain = not (self._no_numpy or self._no_torch or self._may_be_on_gpu)
        self._only_input = spec.inputs[0].name if is_plain and len(spec.inputs) == 1 else None
        self._keeps_arrays = runtime.is_host and spec.is_uniform
        self._names = [tensor.name for tensor in spec.outputs]
        self._model = spec.name
        self.new_response = pb_utils.InferenceResponse
        self.new_tensor = pb_utils.Tensor

    @property
    def is_stand_in(self) -> bool:
        """Whether there is no server behind it."""
        return is_stand_in(self._pb_utils)

    def load_model(self, name: str, config: str) -> None:
        """Have the server load a model with a configuration, anew if it is loaded.

        Sync:
            Until the model is loaded, with the GIL held. Source: measured on tritonserver 2.51.0.
        """
        self._pb_utils.load_model(name, config=config)

    def read_arrays(self, requests: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
        """Read the one input of each request as a view of memory that Triton owns, and nothing else.

        Raises:
            Exception: a request has another number of inputs, or one that can't be read.
        """
        arrays = []
        for request in requests:
            (tensor,) = request.inputs()
            arrays.append(tensor.as_numpy())
        return arrays

    def read(self, requests: Sequence[Any], *, asks_for_cancelled: bool = False) -> list[Request | Failure]:
        """Read the requests of one call; the tensors are views of memory that Triton owns.

        Args:
            requests: as Triton hands them over.
            asks_for_cancelled: ask for each whether it was cancelled, and read it only if not. Costs a call
                to the server's process each, about 70 us.

        Raises:
            Exception: the device has failed; found out where a tensor lies on it.

        Sync:
            Nothing. Triton has finished writing inputs before it calls `execute`.
        """
        arrived = time.monotonic()
        arrivals: list[Request | Failure] = []
        for request in requests:  # as a comprehension it would let go of tensors while an error is under way
            if asks_for_cancelled and request.is_cancelled():
                arrivals.append(self._cancelled(request))
                continue
            try:
                arrivals.append(self._read(request, arrived))
            except UnicodeDecodeError as error:
                text = "an id, parameters and a correlation id in UTF-8"
                arrivals.append(self._unreadable(request, describe(error), "INVALID_ARG", text))
            except Exception as error:  # of pb_utils, for this request only
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
        """Read one request. A model with one input of numbers gets a shorter way to the same."""
        tensors = request.inputs()
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
        name = tensor.name()
        if name in self._no_torch:
            return tensor.as_numpy()  # type: ignore[no-any-return]  # an array
        if name in self._no_numpy or (self._may_be_on_gpu and not tensor.is_cpu()):
            return torch.utils.dlpack.from_dlpack(tensor)
        # A view of the numpy array that the stub has made already; DLPack would try and fail first.
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
        """Build one response per request, in order, with the outputs that the request asked for.

        Raises:
            Exception: the device has failed; found out where a tensor lies on it.
        """
        responses = []
        batch: Tensors | None = None
        new_response, names = self._pb_utils.InferenceResponse, self._names
        for request, result in zip(requests, results, strict=True):
            if isinstance(result, Failure):
                responses.append(self.refuse(result))
                continue
            try:
                # Triton takes no outputs for all of them, so of one there is nothing to ask for.
                requested = names if len(names) == 1 else request.requested_output_names()
                if isinstance(result, Answer):
                    if result.batch is not batch:
                        wholes = [(name, *self._wrapper(result.batch[name])) for name in names]
                        batch = result.batch  # not before: `wholes` could be another's
                    rows = result.rows
                    tensors = []
                    for name, whole, wrap in wholes:
                        if name in requested:
                            tensors.append(wrap(name, whole[rows]))
                    responses.append(new_response(tensors))
                else:
                    responses.append(self.answer(result, requested))
            except Exception as error:  # of pb_utils, for this request only
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
        """Build those responses anew for which a hook has set `response_parameters`; an error has none.

        Args:
            responses: to the requests of one call; changed in place.
            results: from which they were built.
            arrivals: the requests as read.
            requests: as Triton handed them over.

        Returns:
            The codes of the responses that became errors, because their parameters can't be sent.
        """
        codes = []
        for place, (arrival, result) in enumerate(zip(arrivals, results, strict=True)):
            info = arrival.info if isinstance(arrival, Request) else None
            if info is None or not info.response_parameters or isinstance(result, Failure):
                continue
            try:
                requested = requests[place].requested_output_names()
                responses[place] = self.answer(result, requested, info.response_parameters)
                continue
            except RequestError as error:
                failure = refusal_of(error)
            except Exception as error:  # of pb_utils, for values of another type
                text = f"request {info.id!r} response_parameters: response not built, {describe(error)}"
                failure = Failure(text, "INTERNAL")
            responses[place] = self.refuse(failure)
            codes.append(failure.code)
        return codes

    def answer(
        self, outputs: Tensors, requested: Collection[str], parameters: Mapping[str, Any] | None = None
    ) -> Any:
        """Build the response with those outputs that were asked for, and parameters where there are any.

        Raises:
            RequestError: the server's responses have no parameters.
            Exception: of pb_utils, or the device has failed.
        """
        tensors = [self._tensor(name, outputs[name]) for name in self._names if name in requested]
        if not parameters:
            return self._pb_utils.InferenceResponse(tensors)
        require_response_parameters(self._pb_utils, self._model)
        return self._pb_utils.InferenceResponse(tensors, parameters=dict(parameters))

    def refuse(self, failure: Failure) -> Any:
        """Build the response with an error."""
        # pybind11 takes no text that isn't UTF-8, and the client's ends at a NUL.
        text = failure.text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
        triton_error = self._pb_utils.TritonError
        return self._pb_utils.InferenceResponse(error=triton_error(text, getattr(triton_error, failure.code)))

    def reschedule(self, request: Any) -> None:
        """Have a request come again, once `execute` has returned None for it."""
        request.set_release_flags(self._pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)

    def new_call(self, model: str, inputs: Mapping[str, Any], *, trace: Any, **options: Any) -> Any:
        """Build a request to another model, whose outputs are to lie on this instance's device.

        Args:
            model: its name.
            inputs: contiguous tensors and arrays by name.
            trace: Triton's object; None for none.
            options: `requested_outputs`, and what `pb_utils.InferenceRequest` has by the same name.
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
        """Read what another model has answered, onto this instance's device.

        Raises:
            RequestError: the answer is an error.

        Sync:
            Outputs on a GPU are copied, and the copy is waited for, also when a later output can't be read:
            Triton takes the memory back. Not after a fault of the device.
        """
        if response.has_error():
            error = response.error()
            raise RequestError(error.message(), code=error.code().name)
        with self._runtime.scope():
            try:
                outputs = {tensor.name(): self._value(tensor) for tensor in response.output_tensors()}
            except BaseException as error:
                if not self._runtime.is_fault(error):
                    self._runtime.wait()
                raise
            self._runtime.wait()
        return outputs

    def _value(self, tensor: Any) -> Value:
        if not tensor.is_cpu():
            return torch.utils.dlpack.from_dlpack(tensor).to(self._runtime.device, copy=True)
        try:
            array = tensor.as_numpy()
        except self._pb_utils.TritonModelException:  # BF16, which numpy does not have
            return torch.utils.dlpack.from_dlpack(tensor).to(self._runtime.device)
        return array if array.dtype == object else torch.from_numpy(array).to(self._runtime.device)

    def _tensor(self, name: str, tensor: Value) -> Any:
        memory, wrap = self._wrapper(tensor)
        return wrap(name, memory)

    def _wrapper(self, value: Value) -> tuple[Any, Callable[[str, Any], Any]]:
        """Give contiguous memory in the form in which Triton takes it or a part of it, and what wraps that.

        On the CPU numpy is taken without a copy, and DLPack hides one. BYTES are copied into Triton's form at
        once.
        """
        if not isinstance(value, torch.Tensor):
            return value, self._pb_utils.Tensor
        if value.device.type != "cpu" or value.dtype is torch.bfloat16:
            return value, self._from_dlpack
        return value.numpy(), self._pb_utils.Tensor

    def _from_dlpack(self, name: str, tensor: torch.Tensor) -> Any:
        """Wrap a tensor as an object, never as a capsule, with the stream that filled it current.

        The stub then waits for that stream, and for a capsule it does not.
        Source: python_backend `pb_tensor.cc`, PbTensor::FromDLPack.
        """
        with self._runtime.scope():
            return self._pb_utils.Tensor.from_dlpack(name, tensor)
