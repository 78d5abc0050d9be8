"""`OpenStream`: one request of a model with `step`, from its arrival to its end."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

from kindaware._batch.request import Request
from kindaware._batch.results import Failure
from kindaware._triton.response_sender import ResponseSender


@dataclass(slots=True, eq=False, repr=False)
class OpenStream:
    """A stream that waits, or is stepped.

    Attributes:
        request: its request, without a reference to Triton's.
        responses: sends its responses.
        state: what `begin` or the last step has left; meaningless before it has begun.
        has_begun: whether it has a state.
        num_items: items that were computed.
        num_bytes: what they come to in the server.
        is_gone: whether its client has cancelled; set by the thread that sends.
        unsent: why an item could not be sent; None for no such error. Set by the thread that sends.
        arrived: when its request arrived, in seconds of `time.monotonic`.
        last_sent: when its last item was sent; 0 before the first.
    """

    request: Request
    responses: ResponseSender
    state: Any = None
    has_begun: bool = False
    num_items: int = 0
    num_bytes: int = 0
    is_gone: bool = False
    unsent: Failure | None = None
    arrived: float = field(default_factory=time.monotonic)
    last_sent: float = 0.0

    @property
    def deadline(self) -> float:
        """When the client's timeout expires, in seconds of `time.monotonic`; infinite for none."""
        context = self.request.context()
        return math.inf if context is None else context.deadline
