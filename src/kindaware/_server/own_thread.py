"""Threads that work for a server, and must not be waited for by themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable


class OwnThread(threading.Thread):
    """A thread that belongs to a server's object, and never stops the server itself.

    The garbage collector runs in whichever thread allocates. Where it finds that nobody uses the object any
    more, the end of the server would wait for this thread, or for a lock that this thread holds.
    """

    def __init__(self, target: Callable[[], None], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)


def run_outside(function: Callable[[], None]) -> None:
    """Call a function that stops a server; waits for it, except on one of the server's own threads."""
    if isinstance(threading.current_thread(), OwnThread):
        threading.Thread(target=function, name="kindaware end").start()
    else:
        function()
