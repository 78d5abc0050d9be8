"""Stubs that died without the server noticing."""

from __future__ import annotations

import time

from kindaware._server.keeper import list_children

GRACE_SECONDS = 5.0
"""A server that is going to notice takes a second or two."""
_INTERVAL_SECONDS = 0.5


class StubWatch:
    """Watches a server's children while it loads models.

    When a stub ends while it completes its model's configuration, because model.py ends or crashes it, server
    2.51 waits for it forever: the dead child stays as it is, and nothing is logged.

    Args:
        pid: of the server.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._dead_since: dict[int, float] = {}
        self._next_look = 0.0

    def has_lost_stub(self) -> bool:
        """Return whether a child has been a zombie for `GRACE_SECONDS`; looks twice a second."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _INTERVAL_SECONDS
            dead = [pid for pid, state in list_children(self._pid).items() if state == "Z"]
            self._dead_since = {pid: self._dead_since.get(pid, now) for pid in dead}
        return any(now - since > GRACE_SECONDS for since in self._dead_since.values())
