"""When the server may be asked whether a request is cancelled."""

from __future__ import annotations

from kindaware.testing.stand_in.host.host import Host
from kindaware.testing.stand_in.objects.request_state import RequestState


def is_request_cancelled(host: Host, state: RequestState) -> bool:
    """Ask the server each time until it says yes.

    Raises:
        TritonContractError: there is nothing to ask about, and the server would crash.
    """
    if state.is_cancelled:
        return True
    if not state.is_from_server:
        raise host.violation(
            "abort: is_cancelled() of a request that the model built (Cannot determine request cancellation)",
            "call it on requests that execute got",
        )
    if state.is_closed or state.request is None:
        raise host.violation(
            "crash: is_cancelled() after the request was answered reads memory that is gone",
            "don't call it once FINAL was sent or a response was returned",
        )
    state.is_cancelled = host.is_cancelled(state.request)
    return state.is_cancelled
