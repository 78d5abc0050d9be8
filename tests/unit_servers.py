"""The servers that the tests of one unit share, which take memory that other units need."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from work_units import unit_of

if TYPE_CHECKING:
    from kindaware.testing import TritonServer


class UnitServers:
    """Ends servers after the last test of the unit that started them; a model's process takes 300 MB."""

    def __init__(self) -> None:
        self._servers: list[TritonServer] = []

    def note(self, value: Any) -> None:
        """Take over the servers in what a fixture returns."""
        self._servers += find_servers([value])

    def end_after(self, test: str, following: str | None) -> None:
        """End them if the next test is of another unit.

        Args:
            test: the id of a test that has ended.
            following: the id of the next one; None if there is none.
        """
        if following is None or unit_of(following) != unit_of(test):
            while self._servers:
                self._servers.pop().stop()


def find_servers(values: Iterable[Any]) -> Iterator["TritonServer"]:
    """Yield the servers among values, and within their tuples, lists and dictionaries."""
    from kindaware._server.server import TritonServer

    for value in values:
        if isinstance(value, TritonServer):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from find_servers(value)
        elif isinstance(value, dict):
            yield from find_servers(value.values())
