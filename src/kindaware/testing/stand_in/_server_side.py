"""What only the server does to requests and responses; for harnesses."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kindaware.testing.stand_in._host import Host
from kindaware.testing.stand_in._request import InferenceRequest, RequestState
from kindaware.testing.stand_in._response import InferenceResponse
from kindaware.testing.stand_in._wire import Answer, WireTensor


def new_server_request(
    host: Host,
    *,
    inputs: Sequence[WireTensor] = (),
    requested_output_names: Collection[str] = (),
    request_id: str = "",
    correlation_id: int | str = 0,
    flags: int = 0,
    timeout: int = 0,
    parameters: Mapping[str, Any] | None = None,
    trace: str | None = None,
) -> InferenceRequest:
    """Make a request as the server hands it to `execute`; `attach_classes` must have been called.

    Args:
        host: the instance that gets it; it says whether the model is decoupled.
        inputs: in the order in which `inputs()` shows them.
        requested_output_names: the caller fills in all names of the configuration if the client named none.
        request_id: empty if unset.
        correlation_id: int, or str.
        flags: of sequences.
        timeout: microseconds, 0 is none.
        parameters: without the reserved ones.
        trace: what `request.trace().get_context()` gives.
    """
    raise NotImplementedError


def state_of(request: InferenceRequest) -> RequestState:
    """Give what happened to a request so far; the object stays up to date."""
    raise NotImplementedError


def check_returned(request: InferenceRequest, response: InferenceResponse) -> None:
    """Check a response that `execute` returned against what was sent for the request before.

    Raises:
        TritonModelException: with the text that becomes the error of the whole batch.
        TritonContractError: the server would corrupt its memory (one object for two requests).
    """
    raise NotImplementedError


def send_returned(request: InferenceRequest, response: InferenceResponse) -> Answer:
    """Send a response that `execute` returned: as `send(response, FINAL)`, checked by `check_returned`."""
    raise NotImplementedError


def fail_request(request: InferenceRequest) -> None:
    """Close the sender of a request because an error left `execute`; release flags go back to RELEASE_ALL.

    Raises:
        TritonContractError: FINAL had been sent and the model is not decoupled: a double free.
    """
    raise NotImplementedError


def answer_of(response: InferenceResponse, requested: Collection[str] | None) -> Answer:
    """Give what the client gets: outputs pruned to `requested` (None is all), their bytes frozen.

    As on the server this changes the response: it loses the outputs that were not requested.
    """
    raise NotImplementedError
