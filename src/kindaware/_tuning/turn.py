"""One process of the host at a time: instances that measure at once would measure each other."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

_POLL_SECONDS = 0.02


@contextlib.contextmanager
def turn(name: str, patience: float) -> Iterator[bool]:
    """Run the block while no other process of the host is in a block of this name.

    The kernel ends the turn of a process that ends. It is kept as the name of a socket, not as a file, which
    would need a folder that every process may write to.

    Args:
        name: of what is done in turns.
        patience: seconds to wait for the others.

    Yields:
        Whether it is this process's turn; False if the wait was too long.

    Sync:
        Until the others are done, for at most `patience` seconds.
    """
    deadline = time.monotonic() + patience
    with socket.socket(socket.AF_UNIX) as lock:
        while not (is_ours := _take(lock, name)) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        yield is_ours


def _take(lock: socket.socket, name: str) -> bool:
    try:
        # A name that begins with a zero byte is no path: Linux keeps it apart from the files.
        lock.bind(f"\0kindaware {name}")
    except OSError:
        return False
    return True
