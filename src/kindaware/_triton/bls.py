"""Calls of other models in the same server (BLS), with one response or a stream of them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from kindaware._batch.request_context import current_context
from kindaware._errors import CallTooEarlyError, OutputError, RequestError, message
from kindaware._hooks.attachment import attached
from kindaware._tensors.bytes_arrays import Value, to_bytes
from kindaware._tensors.dtypes import DTYPES, triton_name
from kindaware._triton.bls_adapter import CallAdapter
from kindaware._triton.bls_stream import CallStream
from kindaware._triton.module import require_pb_utils
from kindaware._triton.parameters import check_parameters


class ModelCalls:
    """Adds `call`, `call_async` and `call_stream` to a model."""

    def call(
        self,
        model: str,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        requested_outputs: Iterable[str] = (),
        model_version: int = -1,
        timeout_microseconds: int | None = None,
        request_id: str | None = None,
        parameters: Mapping[str, bool | int | str] | None = None,
        **named: Any,
    ) -> dict[str, Value]:
        """Call another model in this server, and wait for its response.

        The current request's trace is passed on, except from `async def stream`, which outlives the trace; so
        is its id, unless another is given. The call's timeout is at most what remains of the client's, the
        earliest of a batch. With the setting `tracing`, OpenTelemetry's current span is passed on as the
        parameter `traceparent`.

        Args:
            model: name of the model to call.
            inputs: inputs by name: tensors on any device, with a batch dimension if the called model batches;
                for BYTES, arrays or lists of `bytes` or `str`.
            requested_outputs: names of the outputs to return; empty for all.
            model_version: version to call; -1 to let the called model's version policy choose.
            timeout_microseconds: timeout for the called model's queue policy; None for what remains of the
                client's.
            request_id: id of the call; None for that of the current request, or of the first of a batch.
            parameters: parameters of the call; those of the current request are not passed on.
            named: further inputs, by name.

        Returns:
            The outputs by name, on this instance's device; BYTES are arrays of `bytes`.

        Raises:
            RequestError: the called model answered with an error, or the server refused the call; text and
                code are those of the server. `UNAVAILABLE` if the client's timeout has expired.
            TypeError: an input is not of a type that can be sent.
            KindAwareError: this model is still loading, or there is no server.

        Sync:
            Until the response has arrived, without the GIL. Input tensors on a GPU are waited for, and so are
            the copies of outputs there.
        """
        adapter, request = _calls_of(self, "self.call").new_request(
            model,
            {**(inputs or {}), **named},
            requested_outputs,
            model_version,
            timeout_microseconds,
            request_id,
            parameters,
        )
        return adapter.read_outputs(request.exec())

    async def call_async(
        self,
        model: str,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        requested_outputs: Iterable[str] = (),
        model_version: int = -1,
        timeout_microseconds: int | None = None,
        request_id: str | None = None,
        parameters: Mapping[str, bool | int | str] | None = None,
        **named: Any,
    ) -> dict[str, Value]:
        """Call another model like `call`, letting other coroutines run meanwhile.

        Arguments, result and errors are those of `call`. The call itself runs on a thread of the event loop's
        executor.
        """
        adapter, request = _calls_of(self, "self.call_async").new_request(
            model,
            {**(inputs or {}), **named},
            requested_outputs,
            model_version,
            timeout_microseconds,
            request_id,
            parameters,
        )
        response = await asyncio.get_running_loop().run_in_executor(None, request.exec)
        return adapter.read_outputs(response)

    def call_stream(
        self,
        model: str,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        requested_outputs: Iterable[str] = (),
        model_version: int = -1,
        timeout_microseconds: int | None = None,
        request_id: str | None = None,
        parameters: Mapping[str, bool | int | str] | None = None,
        **named: Any,
    ) -> CallStream:
        """Call another model that may send any number of responses; for the arguments see `call`.

        Returns:
            An iterator over the outputs of each response, for use with `for` or `async for`. The call is made
            when the first response is requested.

        Raises:
            RequestError: the client's timeout has expired. While iterating: see `call`.
            TypeError: an input is not of a type that can be sent.
            KindAwareError: this model is still loading, or there is no server.

        Sync:
            None; iterating waits for one response at a time, without the GIL.
        """
        adapter, request = _calls_of(self, "self.call_stream").new_request(
            model,
            {**(inputs or {}), **named},
            requested_outputs,
            model_version,
            timeout_microseconds,
            request_id,
            parameters,
        )
        return CallStream(adapter, request)


class Calls:
    """The calls of other models that an instance makes.

    Args:
        model: name of the instance's model, for messages.

    Attributes:
        adapter: builds the requests; None until calls may be made, and again when the instance shuts down.
    """

    def __init__(self, model: str) -> None:
        self.adapter: CallAdapter | None = None
        self._model = model

    def new_request(
        self,
        model: str,
        inputs: Mapping[str, Any],
        requested_outputs: Iterable[str],
        model_version: int,
        timeout_microseconds: int | None,
        request_id: str | None,
        parameters: Mapping[str, bool | int | str] | None,
    ) -> tuple[CallAdapter, Any]:
        """Build the request of a call; for the arguments see `ModelCalls.call`.

        Returns:
            The adapter, which reads the outputs, and Triton's request.

        Raises:
            CallTooEarlyError: the model is still loading, or is shutting down.
        """
        subject = f"model {self._model!r} call of {model!r}"
        # Without a server there is no adapter either, and that is the error to report.
        if self.adapter is None:
            require_pb_utils(subject)
            raise CallTooEarlyError(
                message(
                    subject,
                    expected="to be made while a request is answered",
                    got="one while the model loads or ends",
                    remedy="make it in forward, stream, preprocess or postprocess",
                )
            )
        # Read now: the calling thread or task works for the request, and the thread that executes doesn't.
        check_parameters(parameters or {}, f"{subject} parameters")
        context = current_context()
        self.adapter.land(inputs.values())
        request = self.adapter.new_call(
            model,
            {name: _to_value(value, f"{subject} input {name!r}") for name, value in inputs.items()},
            requested_outputs=list(requested_outputs),
            model_version=model_version,
            timeout=_timeout(timeout_microseconds, context.deadline, subject),
            request_id=context.request_id if request_id is None else request_id,
            parameters=dict(parameters or {}),
            trace=context.trace,
        )
        return self.adapter, request


def _calls_of(owner: object, what: str) -> Calls:
    calls: Calls = attached(owner, what).calls
    return calls


def _timeout(given: int | None, deadline: float, subject: str) -> int:
    """Return the call's timeout in microseconds, 0 for none: the smaller of the given one and what remains.

    Raises:
        RequestError: the deadline has passed.
    """
    limits = [] if not given else [given]
    if deadline < math.inf:
        remaining = int((deadline - time.monotonic()) * 1e6)
        # 0 would mean no timeout at all.
        if remaining <= 0:
            text = message(
                subject,
                expected="to be made within the timeout of the request",
                got=f"{-remaining} us more than that",
                remedy="give the request more time",
            )
            raise RequestError(text, code="UNAVAILABLE")
        limits.append(remaining)
    return min(limits, default=0)


def _to_value(value: Any, subject: str) -> Any:
    """Return an input in a form that Triton takes: a contiguous tensor, an array, or text as bytes.

    Raises:
        TypeError: the value is not of a type that can be sent.
    """
    if isinstance(value, torch.Tensor):
        if triton_name(value.dtype) in DTYPES and value.layout is torch.strided:
            return value.detach().resolve_neg().contiguous()
        got = f"{value.dtype} in layout {value.layout}"
    else:
        # Numbers; Triton itself copies an array that isn't contiguous.
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            return value
        # Its error speaks of a hook's output; the one below speaks of a call's input.
        with contextlib.suppress(OutputError):
            return to_bytes(value, subject)
        got = type(value).__name__
    raise TypeError(
        message(
            subject,
            expected="a dense tensor of a data type that Triton has, or bytes and str in arrays or lists",
            got=got,
            remedy="convert it",
        )
    )
