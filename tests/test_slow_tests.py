"""The list of slow tests names tests that exist."""

from pathlib import Path

import pytest

from slow_tests import SLOW


@pytest.mark.parametrize("place", SLOW)
def test_slow_tests_of_a_file_are_in_it(place):
    source = Path(__file__).parent.joinpath(f"{place}.py").read_text()
    assert [start for start in SLOW[place] if f"def {start}" not in source] == []
