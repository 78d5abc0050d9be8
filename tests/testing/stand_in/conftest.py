import pytest
from stand_in_kit import open_host


@pytest.fixture
def opened():
    return open_host()


@pytest.fixture
def host(opened):
    return opened[0]


@pytest.fixture
def pb(opened):
    return opened[1]


@pytest.fixture
def c_module(opened):
    return opened[2]
