"""How an instance ends on the real server, and whether it is asked if it is ready."""

from pathlib import Path

import numpy as np
import pytest
from complete_models import serve_complete

pytestmark = pytest.mark.server

MODELS = Path(__file__).parent / "life_cycle_models"


@pytest.fixture(scope="module")
def closing_server():
    with serve_complete(MODELS, models=["closing"]) as server:
        yield server


def test_each_instance_unloads_once_and_one_that_raises_holds_nobody_up(closing_server, connect):
    client = connect(closing_server)
    assert client.infer("closing", X=np.ones((1, 1), np.float32))["Y"].tolist() == [[2.0]]
    closing_server.unload("closing")
    log = closing_server.log_text()
    assert [log.count(f"closing_0_{n} unloads") for n in range(2)] == [1, 1]
    assert "can't be closed" in log
    closing_server.load("closing")
    assert client.infer("closing", X=np.ones((1, 1), np.float32))["Y"].tolist() == [[2.0]]


def test_server_asks_whether_a_model_is_ready_from_26_03_on(closing_server, connect):
    """The wheel's server, 2.51, takes a model that says no for ready; release 26.03 is 2.67."""
    asks = tuple(map(int, closing_server.server_version.split(".")[:2])) >= (2, 67)
    assert connect(closing_server).grpc.is_model_ready("closing") is not asks
    assert ("was asked" in closing_server.log_text()) is asks
