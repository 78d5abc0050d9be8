"""Calls of other models of the server (BLS): one answer, or a stream of them."""

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
from kindaware._triton.adapter import TritonAdapter
from kindaware._triton.bls_stream import CallStream
from kindaware._triton.module import require_pb_utils


class ModelCalls:
    """Gives a model `call`, `call_async` and `call_stream`."""

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
        """Call another model of this server, and wait for its answer.

        The request's trace is passed on, but from `async def stream`, which outlives it; and its id unless
        another is given. What is left of the time that the client gave (the earliest of a batch's) bounds the
        call's.

        Args:
            model: its name.
            inputs: by name: tensors on any device; for BYTES arrays or lists of `bytes` or `str`.
            requested_outputs: names of the outputs that are wanted; empty for all.
            model_version: -1 for the one that the called model's version policy chooses.
            timeout_microseconds: what the called model's queue policy may hold against the call; None for
                what is left of the client's.
            request_id: None for that of the request, or of the first of a batch.
            parameters: of the call; those of the request are not passed on.
            named: further inputs, by name.

        Returns:
            The outputs by name, on this instance's device; BYTES are arrays of `bytes`.

        Raises:
            RequestError: the called model answered with an error, with its code as far as the server passes
                it on, or the server refused the call; the text is the server's. `UNAVAILABLE` when the
                client's time is over.
            TypeError: an input is nothing that can be sent.
            KindAwareError: this model is not loaded yet, or there is no server.

        Sync:
            Until the answer is there, without the GIL. Input tensors on a GPU are waited for, and outputs
            there too.
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
        """Do as `call` does, and let other coroutines run meanwhile."""
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
        """Call another model, which may give any number of answers; for the arguments see `call`.

        Returns:
            An iterator of outputs, for `for` and for `async for`. The call is made when the first is asked
            for.

        Raises:
            TypeError: see `call`, and so are the others.
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
        model: the instance's model, for messages.

    Attributes:
        adapter: builds the requests; None until calls may be made, and again when the instance ends.
    """

    def __init__(self, model: str) -> None:
        self.adapter: TritonAdapter | None = None
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
    ) -> tuple[TritonAdapter, Any]:
        """Build the request of a call, and return it with what reads its outputs; see `ModelCalls.call`.

        Raises:
            CallTooEarlyError: the model loads or ends.
        """
        subject = f"model {self._model!r} call of {model!r}"
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
        context = current_context()
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
    """Return the call's timeout in microseconds, 0 for none.

    Raises:
        RequestError: there is no time left.
    """
    limits = [] if not given else [given]
    if deadline < math.inf:
        left = int((deadline - time.monotonic()) * 1e6)
        if left <= 0:
            text = message(
                subject,
                expected="to be made within the timeout of the request",
                got=f"{-left} us more than that",
                remedy="give the request more time",
            )
            raise RequestError(text, code="UNAVAILABLE")
        limits.append(left)
    return min(limits, default=0)


def _to_value(value: Any, subject: str) -> Any:
    """Make a tensor contiguous, and text into bytes; arrays that aren't contiguous Triton's own copies.

    Raises:
        TypeError: it is nothing that can be sent.
    """
    if isinstance(value, torch.Tensor):
        if triton_name(value.dtype) in DTYPES and value.layout is torch.strided:
            return value.detach().resolve_neg().contiguous()
        got = f"{value.dtype} in layout {value.layout}"
    else:
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            return value
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
