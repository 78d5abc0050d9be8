"""`pb_utils.InferenceRequest`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kindaware.testing.stand_in._wire import Answer


@dataclass(slots=True, eq=False)
class RequestState:
    """What the server knows of a request.

    Attributes:
        requested_output_names: the names that the response is pruned to; None keeps all.
        release_flags: 1 is RELEASE_ALL, 2 is RESCHEDULE.
        sent: all that was sent for it, in order, returned responses included.
        num_sent: sends so far, flags alone included.
        is_closed: FINAL was sent, a response was returned, or an error left `execute`.
        is_final_sent: FINAL was sent through the sender.
        is_from_server: `execute` got it; False for one that the model built.
    """

    requested_output_names: frozenset[str] | None = None
    release_flags: int = 1
    sent: list[Answer] = field(default_factory=list)
    num_sent: int = 0
    is_closed: bool = False
    is_final_sent: bool = False
    is_from_server: bool = True


class InferenceRequest:
    """A request."""

    _kindaware: Any
