"""Waiting for answers, and noticing when none can come."""

from __future__ import annotations

import time

from kindaware.testing.harness.pending import Pending
from kindaware.testing.harness.process.instance import Instance
from kindaware.testing.stand_in import TritonContractError

_STEP_SECONDS = 0.02


def wait_for(
    pending: Pending, instance: Instance | None, timeout_seconds: float, num_answers: int | None = None
) -> None:
    """Wait until a request has this many answers, or is done; None waits until it is done.

    Args:
        pending: the request.
        instance: that has it; None for an ensemble, of which no instance does.
        timeout_seconds: how long it may take.
        num_answers: how many to wait for.

    Raises:
        TritonContractError: nobody is left who could answer it, or it takes too long.
    """
    deadline = time.monotonic() + timeout_seconds
    if instance is not None:
        instance.loop.forget()
    with pending.changed:
        while not pending.is_done and (num_answers is None or len(pending.answers) < num_answers):
            if pending.error is not None:
                raise pending.error
            # A model that runs beside its caller may not have begun, so that no instance is busy yet.
            is_anyone_left = pending.is_running() or (instance is not None and instance.is_anyone_left())
            if time.monotonic() >= deadline or not is_anyone_left:
                raise _hang(pending, instance)
            pending.changed.wait(_STEP_SECONDS)


def _hang(pending: Pending, instance: Instance | None) -> TritonContractError:
    who = (instance and instance.occasion) or f"request {pending.sent.request_id or '<id_unknown>'!r}"
    num_sent = len(pending.answers)
    got = f"{num_sent} responses, but no FINAL" if num_sent else "no answer"
    outcome = f"leave the client waiting for ever: {who} got {got}"
    if instance is None:
        return TritonContractError(f"the server would {outcome}; look at the steps of the ensemble")
    return instance.violation(
        outcome,
        "return a response, or send one through the request's sender with "
        "TRITONSERVER_RESPONSE_COMPLETE_FINAL",
    )
