"""What only the server does to requests and responses; for harnesses."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from kindaware.testing.stand_in.host.errors import RefusalError
from kindaware.testing.stand_in.host.host import Host
from kindaware.testing.stand_in.objects.parameters import pass_on
from kindaware.testing.stand_in.objects.request import InferenceRequest
from kindaware.testing.stand_in.objects.request_state import RequestState
from kindaware.testing.stand_in.objects.response import InferenceResponse
from kindaware.testing.stand_in.objects.sender import FINAL, check_send, deliver
from kindaware.testing.stand_in.objects.tensor import new_tensor
from kindaware.testing.stand_in.objects.trace import InferenceTrace
from kindaware.testing.stand_in.pybind.pybind import make
from kindaware.testing.stand_in.wire.wire import Answer, WireTensor


def new_server_request(
    host: Host,
    *,
    inputs: Sequence[WireTensor] = (),
    requested_output_names: Collection[str] = (),
    trace: str | None = None,
    **said: Any,
) -> InferenceRequest:
    """Return a request as the server hands it to `execute`; `new_c_module` must have been called.

    Args:
        host: the instance that gets it; it says whether the model is decoupled.
        inputs: in the order in which `inputs()` shows them.
        requested_output_names: the caller fills in all names of the configuration if the client named none.
        trace: what `request.trace().get_context()` returns.
        said: what else it says, by the names of `RequestState`.
    """
    state = RequestState(
        [new_tensor(host, wire) for wire in inputs],
        frozenset(requested_output_names),
        host.model_name,
        trace=make(InferenceTrace, trace),
        is_from_server=True,
        **said,
    )
    request: InferenceRequest = make(host.classes.InferenceRequest, state)
    state.request = request
    return request


def release_inputs(request: InferenceRequest) -> None:
    """Release the GPU memory of a request's inputs, as the server does once `execute` has returned."""
    for tensor in state_of(request).inputs:
        tensor._kindaware.buffer.overwrite()


def state_of(request: InferenceRequest) -> RequestState:
    """Return what has happened to a request so far; the object stays up to date."""
    state: RequestState = request._kindaware
    return state


def check_returned(request: InferenceRequest, response: InferenceResponse) -> None:
    """Check a response that `execute` returned against what was sent for the request before.

    Raises:
        TritonModelException: with the text that becomes the error of the whole batch.
        TritonContractError: the server would corrupt its memory (one object for two requests).
    """
    host = request._host
    check_send(state_of(request), host, has_response=True, flags=FINAL)
    owner = response._kindaware.owner
    if owner not in (None, request):
        raise host.violation(
            "corrupt its memory: one InferenceResponse object was returned for two requests",
            "make a response for every request",
        )
    response._kindaware.owner = request
    try:
        pass_on(json.loads(response._kindaware.parameters))
    except RefusalError as error:
        raise host.violation(
            f"abort, all models with it: {error}, in a response that execute returned",
            "give response parameters ints of 64 bits, and names without NUL",
        ) from None


def send_returned(request: InferenceRequest, response: InferenceResponse) -> Answer:
    """Send a response that `execute` returned: as `send(response, FINAL)`, checked by `check_returned`."""
    state = state_of(request)
    with state.lock:
        state.num_sent += 1
        state.is_closed = True
        return deliver(request._host, state, response, is_final=True)


def fail_request(request: InferenceRequest) -> None:
    """Close the sender of a request because an error left `execute`; release flags go back to RELEASE_ALL.

    Raises:
        TritonContractError: FINAL had been sent and the model is not decoupled: a double free.
    """
    state, host = state_of(request), request._host
    is_double_free = state.is_final_sent and not host.is_decoupled
    state.is_closed = True
    state.request = None
    state.release_flags = 1
    if is_double_free:
        raise host.violation(
            "free the request's response factory twice, and crash some time later: an error left execute "
            "after FINAL was sent",
            "don't raise once a request was answered through its sender",
        )
