"""`pb_utils.InferenceResponse`."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from kindaware.testing.stand_in.host.host import Host
from kindaware.testing.stand_in.objects.parameters import check_parameters, pass_on
from kindaware.testing.stand_in.objects.tensor import Tensor, new_tensor, save
from kindaware.testing.stand_in.objects.triton_error import ErrorCode, TritonError, TritonModelException
from kindaware.testing.stand_in.pybind.convert import to_list, to_object, to_optional
from kindaware.testing.stand_in.pybind.pybind import (
    MODULE,
    Arg,
    later,
    make,
    match,
    method,
    mismatch,
    named_as_server,
    pybind11_object,
)
from kindaware.testing.stand_in.wire.wire import Answer, Failure

PARAMETERS_SINCE = (25, 2)

_TENSORS = Arg("output_tensors", f"List[{MODULE}.Tensor]", to_list(to_optional(Tensor)), (), "[]")
_ERROR = Arg("error", f"{MODULE}.TritonError", to_optional(TritonError), None)
_PARAMETERS = Arg("parameters", "object", to_object, None)


@dataclass(slots=True, eq=False)
class ResponseState:
    """What a response holds.

    Attributes:
        tensors: the outputs; sending removes those that were not requested.
        error: the error, or None.
        parameters: JSON, as the getter returns it.
        owner: the request that it was sent for, or None.
    """

    tensors: list[Tensor]
    error: TritonError | None
    parameters: str = "{}"
    owner: object = None


@named_as_server
class InferenceResponse(pybind11_object):
    """The answer to one request: outputs, or an error."""

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        accepted = [_TENSORS, _ERROR]
        if self._host.server_version >= PARAMETERS_SINCE:
            accepted.append(_PARAMETERS)
        values = match(accepted, args, kwargs)
        if values is None:
            signature = f"{MODULE}.InferenceResponse({', '.join(map(str, accepted))})"
            raise TypeError(mismatch("__init__", "constructor", signature, args, kwargs))
        # Before 25.02 there is no third value.
        tensors, error, parameters = [*values, None][:3]
        if any(tensor is None for tensor in tensors):
            raise TritonModelException("Output tensor for inference response should not be empty.")
        self._kindaware = ResponseState(list(tensors), error, json.dumps(check_parameters(parameters)))

    @method(returns=f"List[{MODULE}.Tensor]")
    def output_tensors(self) -> list[Tensor]:
        """Return the outputs, the same objects in a new list."""
        return list(self._kindaware.tensors)

    @method(returns="bool")
    def has_error(self) -> bool:
        """Return whether it is an error."""
        return self._kindaware.error is not None

    @method(returns=f"{MODULE}.TritonError")
    def error(self) -> TritonError | None:
        """Return the error, the same object, or None."""
        error: TritonError | None = self._kindaware.error
        return error


@later(InferenceResponse, since=PARAMETERS_SINCE)
@method(returns="str")
def parameters(self: InferenceResponse) -> str:
    """Return the parameters as JSON."""
    text: str = self._kindaware.parameters
    return text


def answer_of(response: InferenceResponse, requested: Collection[str] | None) -> Answer:
    """Return what the client gets: outputs pruned to `requested` (None is all), their bytes frozen.

    As on the server this changes the response: it loses the outputs that were not requested.

    Raises:
        RefusalError: its parameters can't be sent.
    """
    state: ResponseState = response._kindaware
    if requested is not None:
        state.tensors = [tensor for tensor in state.tensors if tensor.name() in requested]
    if state.error is not None:
        return Answer(failure=Failure(state.error.message(), state.error.code().name))
    outputs = tuple(save(tensor) for tensor in state.tensors)
    return Answer(outputs, parameters=pass_on(json.loads(state.parameters)))


def new_response(host: Host, answer: Answer) -> InferenceResponse:
    """Return the response that a BLS call gets for an Answer."""
    if answer.failure is not None:
        error = TritonError(answer.failure.message, ErrorCode.__members__[answer.failure.code])
        return make(host.classes.InferenceResponse, ResponseState([], error, ""))  # type: ignore[no-any-return]
    tensors = [new_tensor(host, wire) for wire in answer.outputs]
    text = "" if answer.is_flag_only else json.dumps(dict(answer.parameters))
    return make(host.classes.InferenceResponse, ResponseState(tensors, None, text))  # type: ignore[no-any-return]
