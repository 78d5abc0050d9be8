"""One call of `execute`: the rules for what it may return and raise, and what follows from either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kindaware.testing.harness.failures import describe
from kindaware.testing.stand_in import (
    Answer,
    Failure,
    Host,
    InferenceRequest,
    TritonContractError,
    TritonModelException,
    check_returned,
    fail_request,
    send_returned,
    state_of,
)

RESCHEDULE = 2


class RuleError(Exception):
    """The backend refuses the outcome of `execute`; the text is the server's."""


def execute(
    host: Host, call: Callable[[list[InferenceRequest]], Any], requests: Sequence[InferenceRequest]
) -> None:
    """Call `execute` once; its answers go to `host.on_send`.

    Source: python_backend `pb_stub.cc`, Stub::ProcessRequests (commit f9088ff).

    Raises:
        TritonContractError: a server would crash, hang or corrupt data.
    """
    handed = list(requests)
    try:
        responses = _check(host, requests, call(handed))
    except (TritonContractError, KeyboardInterrupt):
        raise
    except RuleError as error:
        _check_unchanged(host, handed, requests)
        _fail_all(host, requests, str(error), has_raised=False)
        return
    except BaseException as error:
        _check_unchanged(host, handed, requests)
        _fail_all(host, requests, describe(error), has_raised=True)
        return
    _check_unchanged(host, handed, requests)
    for request, response in zip(requests, responses, strict=True):
        if response is not None:
            send_returned(request, response)


def _check_unchanged(
    host: Host, handed: list[InferenceRequest], requests: Sequence[InferenceRequest]
) -> None:
    if len(handed) != len(requests) or any(a is not b for a, b in zip(handed, requests, strict=True)):
        raise host.violation(
            "crash: execute changed the list of requests that it was given, which the backend goes on using",
            "work on a copy, list(requests)",
        )


def _check(host: Host, requests: Sequence[InferenceRequest], returned: Any) -> list[Any]:
    """Return one response or None per request.

    Raises:
        RuleError: none of it may be sent.
    """
    if returned is None:
        return [None] * len(requests)
    if host.is_decoupled:
        raise RuleError(
            f"Python model '{host.instance_name}' is using the decoupled mode and the execute function "
            "must return None."
        )
    if not isinstance(returned, list):
        raise RuleError(f"Expected a list in the execute return, found type '{type(returned)}'.")
    if len(returned) != len(requests):
        raise RuleError(
            "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
            f"InferenceRequest(s) size is:{len(requests)}, and InferenceResponse(s) size is:{len(returned)}\n"
        )
    for request, response in zip(requests, returned, strict=True):
        _check_element(host, request, response)
    return list(returned)


def _check_element(host: Host, request: InferenceRequest, response: Any) -> None:
    if response is None:
        return
    if state_of(request).release_flags == RESCHEDULE:
        raise RuleError(
            "Expected a None object in the execute function return list for reschduled request, found type "
            f"'{type(response)}'."
        )
    if not isinstance(response, host.classes.InferenceResponse):
        raise RuleError(
            "Expected an 'InferenceResponse' object in the execute function return list, found type "
            f"'{type(response)}'."
        )
    try:
        check_returned(request, response)
    except TritonModelException as error:
        raise RuleError(str(error)) from None


def _fail_all(host: Host, requests: Sequence[InferenceRequest], reason: str, *, has_raised: bool) -> None:
    """Answer every request of the batch with the error, where its client can still get one."""
    text = f"Failed to process the request(s) for model '{host.instance_name}', message: {reason}"
    host.log("ERROR", text, "pb_stub.cc", 0)
    for request in requests:
        if has_raised or not state_of(request).is_final_sent:
            fail_request(request)
        host.on_send(request, Answer(failure=Failure(text), is_final=True))
