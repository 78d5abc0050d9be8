"""Tests that share a server are one unit; what takes long comes first, and what runs alone comes last."""

from dataclasses import dataclass

from work_units import in_order, unit_of


@dataclass(frozen=True)
class Item:
    """As much of a test as its place depends on."""

    nodeid: str
    marks: tuple[str, ...] = ()

    def get_closest_marker(self, name):
        return name if name in self.marks else None


def test_unit_of_a_test_is_its_file_or_the_folder_that_shares_a_server():
    assert unit_of("tests/core/test_a.py::test_b[a::b]") == "tests/core/test_a.py"
    assert (
        unit_of("tests/server/test_a.py::test_b")
        == unit_of("tests/server/test_c.py::test_b")
        == "tests/server"
    )
    assert unit_of("tests/testing/differential/test_a.py::test_b") == "tests/testing/differential"


def test_in_order_keeps_units_together_with_servers_first_and_what_runs_alone_last():
    alone, beside = Item("tests/a/test_a.py::test_1", ("alone",)), Item("tests/a/test_a.py::test_2")
    plain, slow = Item("tests/a/test_b.py::test_1"), Item("tests/y/test_y.py::test_1", ("slow",))
    other, served = Item("tests/z/test_z.py::test_1"), Item("tests/z/test_z.py::test_2", ("server",))
    assert in_order([alone, plain, slow, other, beside, served]) == [
        other,
        served,
        slow,
        plain,
        alone,
        beside,
    ]


def test_in_order_has_large_units_before_small_ones_of_their_kind():
    small = [Item("tests/a/test_a.py::test_1", ("server",))]
    large = [Item(f"tests/server/test_{name}.py::test_1", ("server",)) for name in "bc"]
    plain = [Item(f"tests/a/test_b.py::test_{number}") for number in range(3)]
    assert in_order([*plain, *small, *large]) == [*large, *small, *plain]
