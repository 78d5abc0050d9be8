"""Between the workers of pytest-xdist: most tests run beside others, a few need the machine alone."""

import contextlib
import fcntl
from pathlib import Path

ROOM = Path(__file__).with_name("conftest.py")
DOOR = Path(__file__)


@contextlib.contextmanager
def take_turn(*, is_alone):
    """Be one of many, or alone. Who comes next waits at the door, so that nobody waits for ever."""
    with contextlib.ExitStack() as room:
        with _lock(DOOR, fcntl.LOCK_EX):
            room.enter_context(_lock(ROOM, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH))
        yield


@contextlib.contextmanager
def _lock(path, how):
    with path.open() as file:
        fcntl.flock(file, how)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing it would leave the lock to a process forked meanwhile
