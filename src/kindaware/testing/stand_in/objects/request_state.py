"""What the server knows of a request."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from typing import Any

from kindaware.testing.stand_in.host.host import RequestHandle
from kindaware.testing.stand_in.objects.tensor import Tensor
from kindaware.testing.stand_in.objects.trace import InferenceTrace
from kindaware.testing.stand_in.wire.wire import Answer


@dataclass(slots=True, eq=False)
class RequestState:
    """What the server knows of a request.

    Attributes:
        inputs: the input tensors.
        requested_output_names: the names that the response is pruned to; empty keeps all.
        model_name: whom a request of the model's own is for.
        model_version: the same; -1 is the latest.
        request_id: empty if unset.
        correlation_id: int, or str.
        flags: of sequences.
        timeout: microseconds, 0 is none.
        parameters: of the request.
        trace: its trace, or None.
        preferred_memory: where the outputs of a call are wanted; see `BlsCall`.
        release_flags: 1 is RELEASE_ALL, 2 is RESCHEDULE.
        sent: all that was sent for it, in order, returned responses included.
        num_sent: sends so far, flags alone included.
        is_closed: FINAL was sent, a response was returned, or an error left `execute`.
        is_final_sent: FINAL was sent through the sender.
        is_cancelled: the server has said so; it is not asked again.
        is_from_server: True for one that `execute` got, False for one that the model built.
        sender: the sender that was asked for last: one at a time. It holds this state, so this is a weak
            reference: else a request would be freed only by the collector of cycles.
        request: the request itself, until it is closed.
        lock: held during a send, so that the sends of a request have one order.
    """

    inputs: list[Tensor]
    requested_output_names: frozenset[str]
    model_name: str
    model_version: int = -1
    request_id: str = ""
    correlation_id: int | str = 0
    flags: int = 0
    timeout: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)
    trace: InferenceTrace | None = None
    preferred_memory: tuple[str, int] | None = None
    release_flags: int = 1
    sent: list[Answer] = field(default_factory=list)
    num_sent: int = 0
    is_closed: bool = False
    is_final_sent: bool = False
    is_cancelled: bool = False
    is_from_server: bool = False
    sender: weakref.ref[Any] | None = None
    request: RequestHandle | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
