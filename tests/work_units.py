"""Which tests a worker of pytest-xdist runs in one go, and in which order."""

from pathlib import Path

import pytest

SHARED = ("server", "shared_server", "recorded", "repository")
"""Session fixtures with a real server, or what it serves: their users in a folder are one unit."""

ON_SERVER, PLAIN, ALONE = range(3)


def unit_of(item: pytest.Item) -> str:
    """Return the name of a test's unit: its file, or what it shares with other files of its folder."""
    if item.get_closest_marker("alone"):
        return "alone"
    shared = [name for name in SHARED if name in getattr(item, "fixturenames", ())]
    return f"{folder_of(item)}/{shared[0] if shared else item.path.stem}"


def in_order(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return the tests unit by unit: real servers first, small things later, and last what runs alone."""
    places = {unit_of(item): PLAIN for item in items}
    places |= {unit_of(item): ON_SERVER for item in items if item.get_closest_marker("server")}
    places |= {"alone": ALONE}
    return sorted(items, key=lambda item: (places[unit_of(item)], unit_of(item)))


def folder_of(item: pytest.Item) -> str:
    """Return where the test is, seen from the folder of all tests."""
    return item.path.parent.relative_to(Path(__file__).parent).as_posix()
