"""What a failed test says of the servers that it used: whether they run, and the end of what they printed."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from unit_servers import find_servers

if TYPE_CHECKING:
    from kindaware.testing import TritonServer

NUM_LINES = 30


def describe_servers(values: Iterable[Any]) -> list[tuple[str, str]]:
    """Return a title and a text for each server among the values of a test's fixtures.

    Args:
        values: of the fixtures; those within tuples, lists and dictionaries count too.
    """
    return [(f"server {server!r}", _describe(server)) for server in dict.fromkeys(find_servers(values))]


def _describe(server: "TritonServer") -> str:
    """Return the exit status, if it has one, and the last lines of the log."""
    status = server.poll()
    state = "runs" if status is None else f"has ended, with exit status {status}"
    return "\n".join([f"it {state}; its log ends:", *server.log_text().splitlines()[-NUM_LINES:]])
