"""`StreamFailures`: how a stream fails for reasons that are not its hook's."""

from __future__ import annotations

from kindaware._batch.plan import Plan
from kindaware._batch.request import Request
from kindaware._batch.results import Failure
from kindaware._device.health import Health
from kindaware._errors import message


class StreamFailures:
    """Makes the failures of streams that the library ends.

    Args:
        plan: plan of the instance.
        health: health of its device.
    """

    def __init__(self, plan: Plan, health: Health) -> None:
        self._model = plan.spec.name
        self._max_bytes = plan.settings.max_stream_bytes
        self._health = health

    def unavailable(self) -> Failure:
        """Return the failure of every stream after a device fault."""
        return Failure(self._health.unavailable(), "UNAVAILABLE")

    def unloaded(self, request_id: str) -> Failure:
        """Return the failure of a stream that still ran when the model was unloaded."""
        text = message(
            self._subject(request_id),
            expected="the model to stay loaded until the stream has ended",
            got="its end",
            remedy="send the request again when the model is loaded",
        )
        return Failure(text, "UNAVAILABLE")

    def cancelled(self, request: Request) -> Failure:
        """Return the failure of a stream whose client has gone."""
        text = message(
            self._subject(request.id),
            expected="a client that waits for the end of the stream",
            got="its cancellation",
            remedy="send the request again to get the rest",
        )
        return Failure(text, "CANCELLED")

    def expired(self, request: Request, num_items: int) -> Failure:
        """Return the failure of a stream that has not ended within the timeout of its request."""
        text = message(
            self._subject(request.id),
            expected="a stream that ends within the timeout of its request",
            got=f"{num_items} items by then",
            remedy="ask for less, or send the request with a longer timeout, or with none",
        )
        return Failure(text, "UNAVAILABLE")

    def too_long(self, request: Request, num_items: int) -> Failure:
        """Return the failure of a stream that would exceed `max_stream_bytes`."""
        text = message(
            self._subject(request.id),
            expected=f"a stream of at most {self._max_bytes} bytes (max_stream_bytes)",
            got=f"more after {num_items} items",
            remedy="ask for less at once, or raise kindaware.max_stream_bytes: the server keeps what its "
            "client has not read yet, without a limit of its own",
        )
        return Failure(text, "INVALID_ARG")

    def untold(self) -> Failure:
        """Return the failure of a stream that has failed with an error that could not be logged."""
        text = message(
            f"model {self._model!r}",
            expected="a stream that ends without an error",
            got="one that could not be written to the server's log",
            remedy="send the request again; if it fails again, look for what keeps the server from logging",
        )
        return Failure(text, "INTERNAL")

    def _subject(self, request_id: str) -> str:
        return f"model {self._model!r} request {request_id!r}"
