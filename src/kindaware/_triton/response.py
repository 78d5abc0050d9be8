"""`ResponseBuilder`: converts results to Triton's responses."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import ModuleType
from typing import Any

from kindaware._batch.request import Request
from kindaware._batch.results import Failure, Reporter, Result, Tensors, refusal_of
from kindaware._config.model_spec import ModelSpec
from kindaware._device.runtime import Runtime
from kindaware._errors import RequestError
from kindaware._tensors.rows import Answer
from kindaware._triton.parameters import check_parameters, require_response_parameters
from kindaware._triton.request import readable_id
from kindaware._triton.tensor import TensorWrapper


class ResponseBuilder:
    """Builds Triton's responses.

    Args:
        pb_utils: Triton's module, or a stand-in.
        spec: spec of the model.
        runtime: the runtime of the device, for outputs that stay there.
        reporter: reports responses that can't be built.

    Attributes:
        new_response: `pb_utils.InferenceResponse`.
        new_tensor: `pb_utils.Tensor`.
    """

    def __init__(self, pb_utils: ModuleType, spec: ModelSpec, runtime: Runtime, reporter: Reporter) -> None:
        self._pb_utils = pb_utils
        self._reporter = reporter
        self._runtime = runtime
        self._tensors = TensorWrapper(pb_utils, runtime)
        self._names = [tensor.name for tensor in spec.outputs]
        self._model = spec.name
        self.new_response = pb_utils.InferenceResponse
        self.new_tensor = pb_utils.Tensor

    def respond(self, requests: Sequence[Any], results: Sequence[Result]) -> list[Any]:
        """Build one response per request, in order, with the outputs that it requested.

        A response that can't be built is replaced by an error.

        Raises:
            Exception: the device has failed, which shows when a tensor on it is wrapped.
        """
        responses = []
        batch: Tensors | None = None
        new_response, names = self._pb_utils.InferenceResponse, self._names
        wrapper = self._tensors.wrapper
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
                        wholes = [(name, *wrapper(result.batch[name])) for name in names]
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
                responses.append(self.refuse(self._not_built(error, request)))
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
                failure = self._not_built(error, requests[index])
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
        tensors = [self._tensors.wrap(name, outputs[name]) for name in self._names if name in requested]
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

    def _not_built(self, error: Exception, request: Any) -> Failure:
        # What sends the responses of a stream, or of a call that overlaps, doesn't keep its request.
        request_id = readable_id(request) if hasattr(request, "request_id") else ""
        return self._reporter.fail(error, [request_id], "building the response")[0]

    def reschedule(self, request: Any) -> None:
        """Set the flag for rescheduling a request; `execute` must return None for it."""
        request.set_release_flags(self._pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
