"""Which tests a worker of pytest-xdist runs in one go, and in which order."""

import pytest

FOLDERS = ("tests/server", "tests/serve", "tests/testing/differential")
"""Each is one unit: its files share a real server."""

ON_SERVER, PLAIN, ALONE = range(3)


def unit_of(nodeid: str) -> str:
    """Return the unit of a test: its file, or its folder where that shares a server."""
    path = nodeid.partition("::")[0]
    folder = path.rpartition("/")[0]
    return folder if folder in FOLDERS else path


def in_order(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return the tests unit by unit: real servers first, small things later, and last what runs alone."""
    places = {unit_of(item.nodeid): PLAIN for item in items}
    for place, mark in ((ON_SERVER, "server"), (ALONE, "alone")):
        places |= {unit_of(item.nodeid): place for item in items if item.get_closest_marker(mark)}
    return sorted(items, key=lambda item: (places[unit_of(item.nodeid)], unit_of(item.nodeid)))


def make_scheduler(config: pytest.Config, log):
    """Return what hands the units to the workers, in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class Units(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return unit_of(nodeid)

    config.option.loadscopereorder = False
    return Units(config, log)
