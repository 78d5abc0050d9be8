"""How an instance ends on the real server, and whether it is asked if it is ready."""

from pathlib import Path

import numpy as np
import pytest

from kindaware.testing import TritonServer

pytestmark = pytest.mark.server

MODELS = Path(__file__).parent / "life_cycle_models"


def test_each_instance_unloads_once_and_one_that_raises_holds_nobody_up(connect):
    with TritonServer(MODELS, models=["closing"]) as server:
        client = connect(server)
        assert client.infer("closing", X=np.ones((1, 1), np.float32))["Y"].tolist() == [[2.0]]
        server.unload("closing")
        log = server.log_text()
        assert [log.count(f"closing_0_{n} unloads") for n in range(2)] == [1, 1]
        assert "can't be closed" in log
        server.load("closing")
        assert client.infer("closing", X=np.ones((1, 1), np.float32))["Y"].tolist() == [[2.0]]


def test_server_asks_whether_a_model_is_ready_from_26_03_on(connect):
    """The wheel's server, 2.51, takes a model that says no for ready; release 26.03 is 2.67."""
    with TritonServer(MODELS) as server:
        asks = tuple(map(int, server.server_version.split(".")[:2])) >= (2, 67)
        assert connect(server).grpc.is_model_ready("closing") is not asks
        assert ("was asked" in server.log_text()) is asks
