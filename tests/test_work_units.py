"""Tests that share a server are one unit; real servers come first, and what runs alone comes last."""

from pathlib import Path
from types import SimpleNamespace

from work_units import in_order, unit_of

HERE = Path(__file__).parent


class Item(SimpleNamespace):
    """As much of a test as its unit depends on."""

    def __init__(self, place, *fixtures, marks=()):
        super().__init__(path=HERE / place, fixturenames=fixtures, marks=marks)

    def get_closest_marker(self, name):
        return name if name in self.marks else None


def test_unit_of_a_test_is_its_file_or_the_server_that_its_folder_shares():
    assert unit_of(Item("core/test_a.py", "tmp_path")) == "core/test_a"
    assert unit_of(Item("server/test_a.py", "client", "server")) == "server/server"
    assert unit_of(Item("server/test_b.py", "server")) == "server/server"
    assert unit_of(Item("docs/test_a.py", "server")) == "docs/server"
    assert unit_of(Item("core/test_a.py", marks=["alone"])) == "alone"


def test_in_order_keeps_units_together_with_servers_first_and_what_runs_alone_last():
    alone = Item("a/test_a.py", marks=["alone"])
    plain = Item("a/test_a.py")
    beside = Item("z/test_z.py")
    served = Item("z/test_z.py", marks=["server"])
    assert in_order([alone, plain, beside, served]) == [beside, served, plain, alone]
