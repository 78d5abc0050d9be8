"""`InferenceResponseSender`, and the checks of a send."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kindaware.testing.stand_in.host.errors import RefusalError
from kindaware.testing.stand_in.host.host import Host
from kindaware.testing.stand_in.objects.cancellation import is_request_cancelled
from kindaware.testing.stand_in.objects.request_state import RequestState
from kindaware.testing.stand_in.objects.response import InferenceResponse, answer_of
from kindaware.testing.stand_in.objects.triton_error import TritonModelException
from kindaware.testing.stand_in.pybind.convert import to_optional, to_uint32
from kindaware.testing.stand_in.pybind.pybind import (
    MODULE,
    Arg,
    method,
    named_as_server,
    no_constructor,
    pybind11_object,
)
from kindaware.testing.stand_in.wire.wire import Answer

FINAL = 1
_PREFIX = "Unable to send response. "


@named_as_server
class InferenceResponseSender(pybind11_object):
    """Sends responses of one request, whose state is in the slot."""

    __slots__ = ()
    __init__ = no_constructor

    @method(
        Arg("response", f"{MODULE}.InferenceResponse", to_optional(InferenceResponse), None),
        Arg("flags", "int", to_uint32, 0),
    )
    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        """Send a response, FINAL, or both."""
        state: RequestState = self._kindaware
        with state.lock:
            check_send(state, self._host, has_response=response is not None, flags=flags)
            deliver(self._host, state, response, is_final=flags == FINAL)
            state.num_sent += 1
            state.is_closed = state.is_final_sent = flags == FINAL

    @method(returns="bool")
    def is_cancelled(self) -> bool:
        """Ask the server whether the client has cancelled."""
        return is_request_cancelled(self._host, self._kindaware)


def check_send(state: RequestState, host: Host, *, has_response: bool, flags: int) -> None:
    """Refuse what the server refuses, in the order of its checks.

    Raises:
        TritonModelException: with the server's text.
    """
    if flags not in (0, FINAL):
        raise TritonModelException(_PREFIX + "Unsupported flag provided.")
    if flags == 0 and not has_response:
        raise TritonModelException(
            "Inference Response object must be provided when the response flags is set to zero."
        )
    if not state.is_from_server:
        raise TritonModelException(
            _PREFIX + "Response sender has no reference to the decoupled state of the model."
        )
    if not host.is_decoupled and has_response and state.num_sent:
        raise TritonModelException(_PREFIX + "Non-decoupled model cannot send more than one response.")
    if not host.is_decoupled and not has_response and not state.num_sent:
        raise TritonModelException(
            _PREFIX + "Non-decoupled model cannot send complete final before sending a response."
        )
    if state.is_closed:
        raise TritonModelException(_PREFIX + "Response sender has been closed.")


def deliver(host: Host, state: RequestState, response: Any, *, is_final: bool) -> Answer:
    """Record what was sent, and hand it to the host."""
    if response is None:
        answer = Answer(is_final=is_final, is_flag_only=True)
    else:
        try:
            answer = replace(answer_of(response, state.requested_output_names or None), is_final=is_final)
        except RefusalError as error:
            raise TritonModelException(str(error)) from None
    state.sent.append(answer)
    if state.request is not None:
        host.on_send(state.request, answer)
    if is_final:
        state.request = None
    return answer
