"""Tests that hold for the wheel's server only, where KINDAWARE_TRITONSERVER names another one."""

import sys
from pathlib import Path

import pytest

import triton_version
from kindaware._server.location import VARIABLE


class Item:
    """As much of a test as is looked at."""

    def __init__(self, *markers):
        self.markers = [marker.mark for marker in markers]

    def iter_markers(self, name):
        return (marker for marker in self.markers if marker.name == name)

    def add_marker(self, marker):
        self.markers.append(marker.mark)


@pytest.mark.parametrize(("is_other", "skipped"), [(True, 1), (False, 0)])
def test_skip_on_other_server_skips_what_is_marked_with_the_reason(monkeypatch, is_other, skipped):
    monkeypatch.setattr(triton_version, "is_other_server", lambda: is_other)
    marked, other = Item(pytest.mark.wheel_server("since 25.08")), Item(pytest.mark.server)

    triton_version.skip_on_other_server([marked, other])

    reasons = [marker.kwargs["reason"] for marker in marked.markers if marker.name == "skip"]
    assert reasons == ["the wheel's server only: since 25.08"] * skipped
    assert [marker.name for marker in other.markers] == ["server"]


def test_is_other_server_of_a_server_laid_out_otherwise(monkeypatch):
    monkeypatch.setenv(VARIABLE, sys.executable)

    assert Path(sys.executable).is_file()
    assert triton_version.OTHER_SERVER == VARIABLE
    assert triton_version.is_other_server.__wrapped__()
