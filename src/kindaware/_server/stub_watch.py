"""Stubs that died without the server noticing."""

from __future__ import annotations

import time
from collections.abc import Callable

from kindaware._server.keeper import list_children

GRACE_SECONDS = 5.0
"""The wheel's server takes a second or two where it notices at all."""
LONG_GRACE_SECONDS = 15.0
"""Servers from 25.08 on notice after 5 to 10 seconds."""
_INTERVAL_SECONDS = 0.5


class StubWatch:
    """Watches a server's children while it loads models.

    When a stub ends while it completes its model's configuration, because model.py ends or crashes it, server
    2.51 waits for it forever: the dead child stays as it is, and nothing is logged. Children that are dead
    already are left out: they belong to models that were loaded before.

    Args:
        pid: of the server.
        grace_seconds: how long it may take to notice.
        is_others: tells of a child whether it belongs to a model that isn't being loaded.
    """

    def __init__(
        self,
        pid: int,
        grace_seconds: float = GRACE_SECONDS,
        is_others: Callable[[int], bool] = lambda pid: False,
    ) -> None:
        self._pid = pid
        self._grace_seconds = grace_seconds
        self._is_others = is_others
        self._forgiven: set[int] = set()
        self._dead_since: dict[int, float] = {}
        self._next_look = 0.0
        self.forgive()

    def forgive(self) -> None:
        """Leave out the children that are dead now: the server has said that it knows of one."""
        self._forgiven |= set(self._list_dead())

    def has_lost_stub(self) -> bool:
        """Return whether a child has been a zombie for the time of grace; looks twice a second."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _INTERVAL_SECONDS
            dead = [
                pid for pid in self._list_dead() if pid not in self._forgiven and not self._is_others(pid)
            ]
            self._dead_since = {pid: self._dead_since.get(pid, now) for pid in dead}
        return any(now - since > self._grace_seconds for since in self._dead_since.values())

    def _list_dead(self) -> list[int]:
        return [pid for pid, state in list_children(self._pid).items() if state == "Z"]
