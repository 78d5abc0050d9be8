"""Servers of a unit end with it."""

import pytest

from kindaware.testing import TritonServer
from unit_servers import UnitServers


class Noted(TritonServer):
    """A server that notes its end."""

    num_stops = 0

    def __init__(self):
        super().__init__("models")

    def stop(self, **options):
        self.num_stops += 1


@pytest.mark.parametrize("following", [None, "tests/serve/test_a.py::test_b", "tests/core/test_b.py::test_c"])
def test_servers_end_after_the_last_test_of_their_unit(following):
    servers, (first, second) = UnitServers(), (Noted(), Noted())
    servers.note(first)
    servers.note((second, "its repository"))
    servers.end_after("tests/server/test_a.py::test_b", "tests/server/test_b.py::test_c")
    assert (first.num_stops, second.num_stops) == (0, 0)
    servers.end_after("tests/server/test_b.py::test_c", following)
    servers.end_after("tests/core/test_b.py::test_c", None)
    assert (first.num_stops, second.num_stops) == (1, 1)
