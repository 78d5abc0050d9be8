"""A request on its way: what was asked, and what came back so far."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kindaware.testing.stand_in import Answer, BlsCall, WireTensor

Cancelled = bool | Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """What a client sends.

    Attributes:
        inputs: in the client's order.
        requested_outputs: empty means all.
        request_id: empty if unset.
        correlation_id: int, or str; 0 if unset.
        flags: of sequences: 1 is START, 2 is END.
        timeout: microseconds, 0 is none.
        parameters: of the request.
        trace: what `request.trace().get_context()` returns.
    """

    inputs: tuple[WireTensor, ...] = ()
    requested_outputs: tuple[str, ...] = ()
    request_id: str = ""
    correlation_id: int | str = 0
    flags: int = 0
    timeout: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    trace: str | None = None

    @classmethod
    def of_call(cls, call: BlsCall) -> ClientRequest:
        """Return the request of a BLS call."""
        return cls(
            inputs=call.inputs,
            requested_outputs=call.requested_output_names,
            request_id=call.request_id,
            correlation_id=call.correlation_id,
            flags=call.flags,
            timeout=call.timeout,
            parameters=call.parameters,
            trace=call.trace,
        )

    @property
    def label(self) -> str:
        """The request as the server's error texts begin with it."""
        return f"[request id: {self.request_id or '<id_unknown>'}] "


class Pending:
    """A request that has been handed to a model, or refused.

    Args:
        sent: what the client sent.
        cancelled: whether the client has cancelled, or a function that says so, given the number of responses
            that have come so far.
        on_answer: called with each answer as it comes, on the thread that brings it.

    Attributes:
        error: what those who wait for an answer raise instead.
        thread: runs the model for it, beside the one that waits; None if that one does.
    """

    def __init__(
        self,
        sent: ClientRequest,
        cancelled: Cancelled = False,
        on_answer: Callable[[Answer], None] | None = None,
    ) -> None:
        self.sent = sent
        self.changed = threading.Condition()
        self.answers: list[Answer] = []
        self.is_done = False
        self.error: BaseException | None = None
        self.thread: threading.Thread | None = None
        self._cancelled = cancelled
        self._on_answer = on_answer

    def take(self, answer: Answer) -> None:
        """Add an answer; those after the final one are dropped."""
        with self.changed:
            if self.is_done:
                return
            self.answers.append(answer)
            self.is_done = answer.is_final
            self.changed.notify_all()
        if self._on_answer is not None:
            self._on_answer(answer)

    def fail(self, error: BaseException) -> None:
        """Let those who wait for an answer raise an error of the harness."""
        with self.changed:
            self.error = error
            self.changed.notify_all()

    def is_running(self) -> bool:
        """Return whether a thread of its own runs the model, or is about to."""
        return self.thread is not None and self.thread.is_alive()

    def cancel(self) -> None:
        """Cancel from now on."""
        self._cancelled = True

    def is_cancelled(self) -> bool:
        """Return whether the client has cancelled."""
        if callable(self._cancelled):
            return bool(self._cancelled(len(self.answers)))
        return self._cancelled


@dataclass(frozen=True)
class Admitted:
    """A request that the server lets through to the model.

    Attributes:
        pending: where the answers go.
        sent: what the client sent, and what the sequence batcher added.
        inputs: reshaped.
        output_names: all that are wanted.
        is_warmup: whether it bypasses the scheduler, which would add control tensors.
        place: of its sequence, if each has one: number of the instance, and of the slot there.
        deadline: until when it may wait for the model, as `time.monotonic` counts; None for ever.
        is_filler: whether it stands for a slot whose sequence has sent nothing; nobody reads its answer.
    """

    pending: Pending
    sent: ClientRequest
    inputs: tuple[WireTensor, ...]
    output_names: tuple[str, ...]
    is_warmup: bool = False
    place: tuple[int, int] | None = None
    deadline: float | None = None
    is_filler: bool = False
