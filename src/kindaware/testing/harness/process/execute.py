"""What becomes of one call of `execute`: the rules for what it may return and raise."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kindaware.testing.harness._failures import describe
from kindaware.testing.stand_in import (
    Answer,
    Failure,
    InferenceRequest,
    TritonContractError,
    TritonModelException,
    check_returned,
    fail_request,
    send_returned,
    state_of,
)

if TYPE_CHECKING:
    from kindaware.testing.harness.process.instance import Instance

RESCHEDULE = 2


class _RuleError(Exception):
    """What the backend itself has against the outcome of `execute`; the text is the server's."""


def execute(instance: Instance, requests: Sequence[InferenceRequest]) -> None:
    """Call `execute` once; its answers go to `instance.on_send`.

    Source: python_backend `pb_stub.cc`, Stub::ProcessRequests (commit f9088ff).

    Raises:
        TritonContractError: a server would crash, hang or corrupt data.
    """
    handed = list(requests)
    try:
        responses = _check(instance, requests, _call(instance, handed))
    except (TritonContractError, KeyboardInterrupt):
        raise
    except _RuleError as error:
        _check_unchanged(instance, handed, requests)
        _fail_all(instance, requests, str(error), has_raised=False)
        return
    except BaseException as error:
        _check_unchanged(instance, handed, requests)
        _fail_all(instance, requests, describe(error), has_raised=True)
        return
    _check_unchanged(instance, handed, requests)
    with instance.server_memory():
        for request, response in zip(requests, responses, strict=True):
            if response is not None:
                send_returned(request, response)


def _call(instance: Instance, requests: list[InferenceRequest]) -> Any:
    """Call `execute`, and await it if it has to be."""
    function = getattr(instance.model, "execute", None)
    if function is None:
        raise _RuleError(f"Python model {instance.file} does not implement `execute` method.")
    returned = function(requests)
    if not asyncio.iscoroutine(returned):
        return returned
    if instance.is_decoupled:
        instance.loop.start(returned)
        return None
    return instance.loop.run(returned)


def _check_unchanged(
    instance: Instance, handed: list[InferenceRequest], requests: Sequence[InferenceRequest]
) -> None:
    if len(handed) != len(requests) or any(a is not b for a, b in zip(handed, requests, strict=True)):
        raise instance.violation(
            "crash: execute changed the list of requests that it was given, which the backend goes on using",
            "work on a copy, list(requests)",
        )


def _check(instance: Instance, requests: Sequence[InferenceRequest], returned: Any) -> list[Any]:
    """Give one response or None per request.

    Raises:
        _RuleError: nothing of it may be sent.
    """
    if returned is None:
        return [None] * len(requests)
    if instance.is_decoupled:
        raise _RuleError(
            f"Python model '{instance.instance_name}' is using the decoupled mode and the execute function "
            "must return None."
        )
    if not isinstance(returned, list):
        raise _RuleError(f"Expected a list in the execute return, found type '{type(returned)}'.")
    if len(returned) != len(requests):
        raise _RuleError(
            "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
            f"InferenceRequest(s) size is:{len(requests)}, and InferenceResponse(s) size is:{len(returned)}\n"
        )
    for request, response in zip(requests, returned, strict=True):
        _check_element(instance, request, response)
    return list(returned)


def _check_element(instance: Instance, request: InferenceRequest, response: Any) -> None:
    if response is None:
        return
    if state_of(request).release_flags == RESCHEDULE:
        raise _RuleError(
            "Expected a None object in the execute function return list for reschduled request, found type "
            f"'{type(response)}'."
        )
    if not isinstance(response, instance.classes.InferenceResponse):
        raise _RuleError(
            "Expected an 'InferenceResponse' object in the execute function return list, found type "
            f"'{type(response)}'."
        )
    try:
        check_returned(request, response)
    except TritonModelException as error:
        raise _RuleError(str(error)) from None


def _fail_all(
    instance: Instance, requests: Sequence[InferenceRequest], reason: str, *, has_raised: bool
) -> None:
    """Give every request of the batch the error, as far as its client can still get one."""
    text = f"Failed to process the request(s) for model '{instance.instance_name}', message: {reason}"
    instance.log("ERROR", text, "pb_stub.cc", 0)
    for request in requests:
        if has_raised or not state_of(request).is_final_sent:
            fail_request(request)
        instance.deliver(request, Answer(failure=Failure(text), is_final=True))
