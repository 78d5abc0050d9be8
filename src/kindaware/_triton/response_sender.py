"""The responses to one request of a decoupled model: any number of items, and one FINAL."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from kindaware._batch.results import Failure, Tensors
from kindaware._triton.adapter import TritonAdapter

CANCEL_CHECK_SECONDS = 0.02
"""How often a stream asks whether its client has cancelled, at most: the question costs about 50 us."""

_FINAL = 1  # pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class ResponseSender:
    """Sends the responses to one request, through its response sender.

    Holds the sender and not the request, whose inputs would stay in shared memory for as long as the stream
    lasts.

    Args:
        adapter: the way to the server.
        request: Triton's.
        parameters: what each item says beside its outputs, as it stands when the item is sent.
        asks_for_cancelled: whether to ask the server if the client has cancelled.
    """

    def __init__(
        self,
        adapter: TritonAdapter,
        request: Any,
        parameters: Mapping[str, Any] | None = None,
        *,
        asks_for_cancelled: bool = True,
    ) -> None:
        self._adapter = adapter
        self._requested: set[str] = request.requested_output_names()
        self._sender = request.get_response_sender()
        self._parameters = parameters
        self._num_sent = 0
        self._is_ended = False
        self._is_cancelled = False
        self._next_check = 0.0 if asks_for_cancelled else math.inf

    def send(self, outputs: Tensors) -> None:
        """Send one item.

        Args:
            outputs: contiguous tensors and arrays of BYTES by name.

        Raises:
            RequestError: the server's responses have no parameters.
            Exception: of pb_utils; the item was not sent.

        Sync:
            Until the server has taken it, without the GIL. Then the tensors may be overwritten.
            Source: python_backend `response_sender.cc`, ResponseSender::Send.
        """
        self._sender.send(self._adapter.answer(outputs, self._requested, self._parameters))
        self._num_sent += 1

    def is_cancelled(self) -> bool:
        """Whether the client has cancelled, as far as was asked in the last `CANCEL_CHECK_SECONDS`.

        Not to be asked once FINAL was sent: the server would crash.
        Source: measured on tritonserver 2.51.0.
        """
        now = time.monotonic()
        if not self._is_cancelled and not self._is_ended and now >= self._next_check:
            self._is_cancelled = self._sender.is_cancelled()
            self._next_check = now + CANCEL_CHECK_SECONDS
        return self._is_cancelled

    def end(self, failure: Failure | None = None) -> None:
        """Send FINAL, after a failure's error response if there is one; a second call does nothing.

        An error after items goes in a response of its own: a model on Triton 2.51 that calls this one would
        wait for ever for what comes after an error that is FINAL but not the first response.
        Source: measured on tritonserver 2.51.0.

        Raises:
            Exception: of pb_utils.
        """
        if self._is_ended:
            return
        self._is_ended = True
        if failure is None:
            self._sender.send(flags=_FINAL)
        elif not self._num_sent:
            self._sender.send(self._adapter.refuse(failure), flags=_FINAL)
        else:
            try:
                self._sender.send(self._adapter.refuse(failure))
            finally:
                self._sender.send(flags=_FINAL)
