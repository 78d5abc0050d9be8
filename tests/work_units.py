"""Which tests a worker of pytest-xdist runs in one go, and in which order."""

from collections import Counter

import pytest

FOLDERS = ("tests/server", "tests/serve", "tests/client", "tests/testing/differential")
"""Each is one unit: its files share a real server."""

ON_SERVER, SLOW, PLAIN, ALONE = range(4)


def unit_of(nodeid: str) -> str:
    """Return the unit of a test: its file, or its folder where that shares a server."""
    path = nodeid.partition("::")[0]
    folder = path.rpartition("/")[0]
    return folder if folder in FOLDERS else path


def in_order(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return the tests unit by unit: what takes long first, or it would be waited for in the end.

    Real servers come first, large units before small ones, then what is slow without one, then all else, and
    last what runs alone.
    """
    sizes = Counter(unit_of(item.nodeid) for item in items)
    places = dict.fromkeys(sizes, PLAIN)
    for place, mark in ((SLOW, "slow"), (ON_SERVER, "server"), (ALONE, "alone")):
        places |= {unit_of(item.nodeid): place for item in items if item.get_closest_marker(mark)}
    ranks = {unit: (places[unit], -sizes[unit], unit) for unit in sizes}
    return sorted(items, key=lambda item: ranks[unit_of(item.nodeid)])


def make_scheduler(config: pytest.Config, log):
    """Return what hands the units to the workers, in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class Units(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return unit_of(nodeid)

    config.option.loadscopereorder = False
    return Units(config, log)
