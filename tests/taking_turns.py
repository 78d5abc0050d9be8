"""Between the workers of pytest-xdist: most tests run beside others, a few need the machine alone."""

import contextlib
import fcntl
from pathlib import Path

ROOM = Path(__file__).with_name("conftest.py")
DOOR = Path(__file__)


@contextlib.contextmanager
def take_turn(*, is_alone):
    """Be one of many, or alone. Who comes next waits at the door, so that nobody waits for ever."""
    with ROOM.open() as room:
        with DOOR.open() as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
        yield
