"""Calls of other models: `exec`, `async_exec` and `ResponseIterator`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from kindaware.testing.stand_in.host.errors import RefusalError
from kindaware.testing.stand_in.host.host import Host
from kindaware.testing.stand_in.objects.memory import place_outputs
from kindaware.testing.stand_in.objects.parameters import pass_on
from kindaware.testing.stand_in.objects.response import InferenceResponse, new_response
from kindaware.testing.stand_in.objects.triton_error import TritonModelException
from kindaware.testing.stand_in.pybind.convert import to_instance
from kindaware.testing.stand_in.pybind.pybind import (
    MODULE,
    Arg,
    later,
    make,
    method,
    named_as_server,
    pybind11_object,
)
from kindaware.testing.stand_in.wire.wire import Answer, BlsCall, Failure

STREAM_ERRORS_SINCE = (25, 4)
"""Errors keep their code, those within a stream arrive, and an iterator can be cancelled."""


def execute_call(host: Host, build: Callable[[], BlsCall]) -> Any:
    """Run a call, and return an InferenceResponse, or with `decoupled=True` a ResponseIterator.

    Raises:
        TritonModelException: it is too early or too late.
    """
    if host.phase != "execute":
        raise TritonModelException("BLS is only supported during the 'execute' function.")
    call, answers = _submit(host, build())
    responses = _responses(host, call, answers)
    if call.is_decoupled:
        return make(host.classes.ResponseIterator, IteratorState(responses, host, call))
    response = next(responses, None)
    return new_response(host, Answer(is_flag_only=True)) if response is None else response


def _submit(host: Host, call: BlsCall) -> tuple[BlsCall, Iterator[Answer]]:
    """Submit the call at once, as it arrives; a refusal becomes an answer, even if it comes late."""
    try:
        call = replace(call, parameters=pass_on(call.parameters))
        return call, _with_refusal(call, iter(host.run_bls(call)))
    except RefusalError as error:
        return call, iter((_refused(call, error),))


def _with_refusal(call: BlsCall, answers: Iterator[Answer]) -> Iterator[Answer]:
    try:
        yield from answers
    except RefusalError as error:
        yield _refused(call, error)


def _refused(call: BlsCall, error: RefusalError) -> Answer:
    text = f"Model {call.model_name} - Error when running inference: {error}"
    return Answer(failure=Failure(text), is_final=True)


def _responses(host: Host, call: BlsCall, answers: Iterator[Answer]) -> Iterator[InferenceResponse]:
    """Turn the host's Answers into responses, with what this version of the server does to errors."""
    if host.server_version < STREAM_ERRORS_SINCE:
        answers = _as_before(host, call, answers)
    for answer in answers:
        yield new_response(host, place_outputs(answer, call.preferred_memory))


def _as_before(host: Host, call: BlsCall, answers: Iterator[Answer]) -> Iterator[Answer]:
    """Treat errors as before 25.04: the code is INTERNAL, in a stream only a first and final one arrives.

    Raises:
        TritonContractError: the server would wait forever.
    """
    for index, answer in enumerate(answers):
        failure = answer.failure
        if failure is None:
            yield answer
        elif index == 0:
            yield replace(answer, failure=Failure(failure.message))
        if failure is None or not call.is_decoupled or answer.is_final is (index == 0):
            continue  # of the errors: a first and final one has arrived, one amid a stream is lost
        raise host.violation(
            f"wait for ever: before 25.04 an error of {call.model_name!r} ends the iteration only if it is "
            "the first response and FINAL",
            "let that model send an error as its only response, or test with a newer server_version",
        )


@dataclass(slots=True, eq=False)
class IteratorState:
    """Where an iteration over responses is.

    Attributes:
        source: what is yet to come.
        host: the caller's.
        call: the call.
        stored: the responses so far.
        position: index of the next one.
        is_finished: the end was reached; the next `iter` starts again.
    """

    source: Iterator[InferenceResponse]
    host: Host | None = None
    call: BlsCall | None = None
    stored: list[InferenceResponse] = field(default_factory=list)
    position: int = 0
    is_finished: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


@named_as_server
class ResponseIterator(pybind11_object):
    """The responses of a decoupled call, as they come; after the end a new loop starts at the first."""

    __slots__ = ()

    @method(Arg("arg0", f"{MODULE}.InferenceResponse", to_instance(InferenceResponse)))
    def __init__(self, response: InferenceResponse) -> None:
        self._kindaware = IteratorState(iter((response,)))

    @method(returns="object")
    def __iter__(self) -> Any:
        state: IteratorState = self._kindaware
        if state.is_finished:
            state.position, state.is_finished = 0, False
        return self

    @method(returns="object")
    def __next__(self) -> InferenceResponse:
        state: IteratorState = self._kindaware
        with state.lock:
            if state.is_finished:
                raise StopIteration("Iteration is done for the responses.")
            if state.position == len(state.stored):
                response = next(state.source, None)
                if response is None:
                    state.is_finished = True
                    raise StopIteration("Iteration is done for the responses.")
                state.stored.append(response)
            state.position += 1
            return state.stored[state.position - 1]


@later(ResponseIterator, since=STREAM_ERRORS_SINCE)
@method(returns="None")
def cancel(self: ResponseIterator) -> None:
    """Cancel the called request."""
    state: IteratorState = self._kindaware
    if state.host is not None and state.call is not None and not state.is_finished:
        state.host.cancel_bls(state.call)
