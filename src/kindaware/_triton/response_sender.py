"""`ResponseSender`: sends the responses to one request beside `execute`, and one FINAL."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping
from typing import Any

from kindaware._batch.results import Failure, Tensors
from kindaware._tensors.bytes_arrays import num_bytes
from kindaware._triton.request_reader import is_cancelled
from kindaware._triton.response import ResponseBuilder

CANCEL_CHECK_SECONDS = 0.02
"""Minimum time between two checks for cancellation by one stream; each costs about 50 us."""

ITEM_BYTES = 1024
"""Bytes that an item takes in the server besides its outputs, about."""

_FINAL = 1
"""`pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL`."""


class ResponseSender:
    """Sends the responses to one request, through Triton's response sender.

    It doesn't keep a reference to the request, whose inputs would stay in shared memory for as long as the
    stream lasts.

    Args:
        builder: builds the responses.
        request: Triton's request.
        asks_for_cancelled: whether to ask the server if the client has cancelled.

    Attributes:
        num_sent: number of items that were sent.
        is_ended: whether FINAL was sent; nothing may follow.
    """

    def __init__(
        self,
        builder: ResponseBuilder,
        request: Any,
        *,
        asks_for_cancelled: bool = True,
    ) -> None:
        self._builder = builder
        self._requested: set[str] = request.requested_output_names()
        self._sender = request.get_response_sender()
        self.num_sent = 0
        self.is_ended = False
        self._is_cancelled = False
        # In seconds of time.monotonic; infinity never comes, so nothing is asked.
        self._next_check = 0.0 if asks_for_cancelled else math.inf

    def send(self, outputs: Tensors, parameters: Mapping[str, Any] | None = None) -> None:
        """Send one item.

        Args:
            outputs: contiguous tensors and BYTES arrays by name.
            parameters: parameters of the response; None or empty for none.

        Raises:
            RequestError: there are parameters, and the server doesn't support them.
            Exception: raised by pb_utils; the item was not sent.

        Sync:
            Until the server has copied the item, without the GIL. After that the tensors may be overwritten.
            Source: python_backend `response_sender.cc`, ResponseSender::Send.
        """
        self._sender.send(self._builder.answer(outputs, self._requested, parameters))
        self.num_sent += 1

    def requested_output_names(self) -> set[str]:
        """Return the names of the outputs that the client wants."""
        return self._requested

    def answer(self, response: Any) -> None:
        """Send the only response to a request of a model that isn't decoupled.

        Args:
            response: Triton's response.

        Raises:
            Exception: raised by pb_utils; nothing can be sent to the client any more.

        Sync:
            Until the server has copied it, without the GIL.
        """
        self.is_ended = True
        self._sender.send(response, flags=_FINAL)

    def size_of(self, outputs: Tensors, parameters: Mapping[str, Any] | None = None) -> int:
        """Return the bytes that an item and its parameters would take in the server.

        Outputs that nobody asked for take none.
        """
        sent = (value for name, value in outputs.items() if name in self._requested)
        texts = itertools.chain.from_iterable((parameters or {}).items())
        return ITEM_BYTES + sum(map(_num_text_bytes, texts)) + sum(map(num_bytes, sent))

    def is_cancelled(self) -> bool:
        """Whether the client has cancelled, as of the last `CANCEL_CHECK_SECONDS`."""
        now = time.monotonic()
        # Asked after FINAL was sent, the server would crash. Source: measured on tritonserver 2.51.0.
        if not self._is_cancelled and not self.is_ended and now >= self._next_check:
            self._is_cancelled = is_cancelled(self._sender)
            self._next_check = now + CANCEL_CHECK_SECONDS
        return self._is_cancelled

    def end(self, failure: Failure | None = None) -> None:
        """Send FINAL, preceded by an error response if there is a failure; a second call does nothing.

        An error after items is sent as a response of its own: a model that calls this one would wait forever
        for what follows an error that is FINAL but not the first response.
        Source: measured on tritonserver 2.51.0.

        Raises:
            Exception: raised by pb_utils.
        """
        if self.is_ended:
            return
        # Before sending: should that raise, FINAL must not be sent twice.
        self.is_ended = True
        if failure is None:
            self._sender.send(flags=_FINAL)
        elif not self.num_sent:
            self._sender.send(self._builder.refuse(failure), flags=_FINAL)
        else:
            # FINAL must be sent even if the error can't be: the client would wait forever.
            try:
                self._sender.send(self._builder.refuse(failure))
            finally:
                self._sender.send(flags=_FINAL)


def _num_text_bytes(value: object) -> int:
    """Return the bytes of a name or value of a parameter; those of a number are in `ITEM_BYTES`."""
    return len(value.encode("utf-8", "replace")) if isinstance(value, str) else 0
