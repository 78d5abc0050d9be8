"""`pb_utils.InferenceRequest`."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import Callable
from typing import Any

from kindaware.testing.stand_in.objects.bls import execute_call
from kindaware.testing.stand_in.objects.cancellation import is_request_cancelled
from kindaware.testing.stand_in.objects.memory import PreferredMemory
from kindaware.testing.stand_in.objects.parameters import check_parameters
from kindaware.testing.stand_in.objects.request_state import RequestState
from kindaware.testing.stand_in.objects.tensor import Tensor, save
from kindaware.testing.stand_in.objects.trace import InferenceTrace
from kindaware.testing.stand_in.objects.triton_error import TritonModelException
from kindaware.testing.stand_in.pybind.convert import (
    NO_CAST,
    not_none,
    shown,
    to_bool,
    to_instance,
    to_int64,
    to_list,
    to_object,
    to_optional,
    to_str,
    to_uint32,
    to_uint64,
)
from kindaware.testing.stand_in.pybind.pybind import (
    MODULE,
    Arg,
    make,
    method,
    named_as_server,
    pybind11_object,
)
from kindaware.testing.stand_in.wire.wire import BlsCall

_CXX = "triton::backend::python::"


def _to_correlation_id(value: Any) -> int | str:
    """Accept int and str; each other type fails with an error of its own."""
    if isinstance(value, str):
        return str(value)
    if not isinstance(value, int):
        raise TritonModelException("Correlation ID must be integer or string")
    if not 0 <= value < 2**64:
        raise RuntimeError(NO_CAST)
    return int(value)


@named_as_server
class InferenceRequest(pybind11_object):
    """A request to this model, or one that this model makes of another."""

    __slots__ = ()

    @method(
        Arg("request_id", "str", to_str, ""),
        Arg("correlation_id", "object", not_none, 0),
        Arg("inputs", f"List[{_CXX}PbTensor]", to_list(to_optional(Tensor))),
        Arg("requested_output_names", "List[str]", to_list(to_str)),
        Arg("model_name", "str", to_str),
        Arg("model_version", "int", to_int64, -1),
        Arg("flags", "int", to_uint32, 0),
        Arg("timeout", "int", to_uint64, 0),
        Arg(
            "preferred_memory",
            f"{MODULE}.PreferredMemory",
            to_instance(PreferredMemory),
            None,
            f"<{MODULE}.PreferredMemory object>",
        ),
        Arg(
            "trace",
            f"{MODULE}.InferenceTrace",
            to_instance(InferenceTrace),
            None,
            f"<{MODULE}.InferenceTrace object>",
        ),
        Arg("parameters", "object", to_object, None),
    )
    def __init__(
        self,
        request_id: str,
        correlation_id: Any,
        inputs: list[Any],
        requested_output_names: list[str],
        model_name: str,
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: PreferredMemory | None = None,
        trace: InferenceTrace | None = None,
        parameters: Any = None,
    ) -> None:
        checked = check_parameters(parameters)
        correlation = _to_correlation_id(correlation_id)
        whose = f"for request with id '{request_id}' and model name '{model_name}' should not be empty."
        if any(tensor is None for tensor in inputs):
            raise TritonModelException(f"Input tensor {whose}")
        if "" in requested_output_names:
            raise TritonModelException(f"Requested output name {whose}")
        self._kindaware = RequestState(
            inputs,
            frozenset(requested_output_names),
            model_name,
            model_version=model_version,
            request_id=request_id,
            correlation_id=correlation,
            flags=flags,
            timeout=timeout,
            parameters=checked,
            trace=trace,
            preferred_memory=None if preferred_memory is None else preferred_memory._kindaware,
        )

    @method(returns=f"List[{_CXX}PbTensor]")
    def inputs(self) -> list[Tensor]:
        """Return the inputs, the same objects in a new list."""
        return list(self._kindaware.inputs)

    @method(returns="str")
    def request_id(self) -> str:
        """Return the id, empty if unset."""
        return shown(self._kindaware.request_id)

    @method(returns="object")
    def correlation_id(self) -> int | str:
        """Return the correlation id."""
        correlation_id: int | str = self._kindaware.correlation_id
        return correlation_id

    @method(returns="Set[str]")
    def requested_output_names(self) -> set[str]:
        """Return the names of the outputs that are wanted, in a new set."""
        return {shown(name) for name in self._kindaware.requested_output_names}

    @method(returns="int")
    def flags(self) -> int:
        """Return the flags."""
        return int(self._kindaware.flags)

    @method(Arg("arg0", "int", to_uint32))
    def set_flags(self, flags: int) -> None:
        """Set the flags."""
        self._kindaware.flags = flags

    @method(returns="int")
    def timeout(self) -> int:
        """Return the timeout in microseconds, 0 is none."""
        return int(self._kindaware.timeout)

    @method(returns="str")
    def parameters(self) -> str:
        """Return the parameters as JSON."""
        state: RequestState = self._kindaware
        if state.is_from_server:
            return json.dumps(state.parameters, separators=(",", ":"), ensure_ascii=False)
        return json.dumps(state.parameters)

    @method(returns=f"{MODULE}.InferenceTrace")
    def trace(self) -> InferenceTrace:
        """Return the trace, to pass to the model's own requests; a new object every time."""
        trace: InferenceTrace | None = self._kindaware.trace
        copy: InferenceTrace = make(InferenceTrace, None if trace is None else trace.get_context())
        return copy

    @method(returns="bool")
    def is_cancelled(self) -> bool:
        """Ask the server whether the client has cancelled."""
        return is_request_cancelled(self._host, self._kindaware)

    @method(returns=f"{_CXX}ResponseSender")
    def get_response_sender(self) -> Any:
        """Return the sender, the same object every time."""
        state: RequestState = self._kindaware
        with state.lock:
            sender = state.sender and state.sender()
            if sender is None:
                sender = make(self._host.classes.InferenceResponseSender, state)
                state.sender = weakref.ref(sender)
            return sender

    @method(Arg("arg0", "int", to_uint32))
    def set_release_flags(self, flags: int) -> None:
        """Set what happens to the request when `execute` returns."""
        state: RequestState = self._kindaware
        if not state.is_from_server:
            raise self._host.violation(
                "crash: set_release_flags() needs a request that came from the server",
                "call it on requests that execute got",
            )
        state.release_flags = flags

    @method(Arg("decoupled", "bool", to_bool, False), returns="object")
    def exec(self, decoupled: bool = False) -> Any:
        """Run another model and wait for its response, or get an iterator of its responses."""
        return execute_call(self._host, _call(self._kindaware, decoupled))

    @method(Arg("decoupled", "bool", to_bool, False), returns="object")
    def async_exec(self, decoupled: bool = False) -> Any:
        """Run another model in a thread of the running event loop's pool, and return a future."""
        loop = asyncio.get_running_loop()
        host, state = self._host, self._kindaware
        return loop.run_in_executor(None, lambda: execute_call(host, _call(state, decoupled)))


def _call(state: RequestState, is_decoupled: bool) -> Callable[[], BlsCall]:
    """Return what builds the call: inputs are copied once the call is known to be allowed, not before."""
    return lambda: BlsCall(
        model_name=shown(state.model_name),
        model_version=state.model_version,
        inputs=tuple(save(tensor) for tensor in state.inputs),
        requested_output_names=tuple(sorted(state.requested_output_names)),
        request_id=shown(state.request_id),
        correlation_id=state.correlation_id,
        flags=state.flags,
        timeout=state.timeout,
        parameters=state.parameters,
        is_decoupled=is_decoupled,
        trace=None if state.trace is None else state.trace.get_context(),
        preferred_memory=state.preferred_memory,
    )
