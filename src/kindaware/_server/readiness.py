"""Waiting for a server that loads its models."""

from __future__ import annotations

import time
from collections.abc import Callable

from kindaware._server import log as _log
from kindaware._server.diagnosis import diagnose
from kindaware._server.endpoint import Endpoint
from kindaware._server.process import ServerProcess
from kindaware._server.stub_watch import StubWatch

_POLL_SECONDS = 0.05


def wait_until_healthy(
    process: ServerProcess,
    endpoint: Endpoint,
    condition: str,
    *,
    timeout_seconds: float,
    read_log: Callable[[], str],
) -> None:
    """Wait until a server says that it is `live` or `ready`; it listens only once its models are loaded.

    Args:
        process: of the server.
        endpoint: of the server.
        condition: `live` or `ready`.
        timeout_seconds: how long to wait.
        read_log: returns all that the server has printed.

    Raises:
        ServerError: it has ended, a stub has without the server noticing, or the time is over.
    """
    deadline = time.monotonic() + timeout_seconds
    watch = StubWatch(process.pid)
    while True:
        returncode = process.poll()
        if returncode is not None:
            raise diagnose(f"its end with status {returncode}", read_log())
        # Asked in this order, for another program could answer at the port of a server that has ended.
        if endpoint.is_healthy(condition) and process.poll() is None:
            return
        stub_failure = _log.read_stub_failure(read_log())
        if stub_failure is not None:
            raise diagnose(f"the end of a stub ({stub_failure})", read_log())
        if watch.has_lost_stub():
            raise diagnose("the end of a stub that the server goes on waiting for", read_log())
        if time.monotonic() > deadline:
            raise diagnose(f"none within {timeout_seconds:g} s", read_log())
        time.sleep(_POLL_SECONDS)
