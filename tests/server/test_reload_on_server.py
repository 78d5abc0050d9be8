"""An instance whose device has failed asks a real server for a reload; or says why it can't."""

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
from complete_models import serve_complete
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.server

MODELS = Path(__file__).parent / "faulty_models"
GOOD, BAD = np.ones((1, 2), np.float32), np.full((1, 2), -1, np.float32)


@pytest.fixture
def loads(tmp_path):
    """Gives the processes that have loaded the model."""
    path = tmp_path / "loads"
    return lambda: path.read_text().split()


@pytest.fixture
def open_server(tmp_path, connect):
    """Starts a server for the model, with explicit model control or without."""
    with contextlib.ExitStack() as stack:

        def start(models):
            environment = {"BRITTLE_LOADS": str(tmp_path / "loads")}
            server = stack.enter_context(serve_complete(MODELS, models=models, env=environment))
            return server, connect(server)

        yield start


def assert_answers(client):
    assert client.infer("brittle", INPUT=GOOD)["OUTPUT"].tolist() == [[2.0, 2.0]]


def assert_unavailable(client, values):
    with pytest.raises(InferenceServerException, match="expected a working device, got cpu") as raised:
        client.infer("brittle", INPUT=values)
    assert raised.value.status() == "StatusCode.UNAVAILABLE"


def wait_for(condition, server):
    deadline = time.monotonic() + 120
    while not condition():
        assert server.poll() is None, server.log_text()
        assert time.monotonic() < deadline, server.log_text()
        time.sleep(0.05)


def test_fault_with_explicit_control_is_served_again_and_not_for_ever(open_server, loads):
    server, client = open_server(["brittle"])
    for number in (1, 2, 3):
        assert_answers(client)
        assert_unavailable(client, BAD)
        assert len(loads()) == number  # the answers left before the load began, which holds them up
        wait_for(lambda n=number: server.log_text().count("loaded anew in") == n, server)
        assert f"model 'brittle': reload {number} of at most 3 asked for" in server.log_text()
        assert len(set(loads())) == number + 1

    assert_answers(client)
    assert_unavailable(client, BAD)
    wait_for(lambda: "expected at most 3 reloads, each within 3600 s" in server.log_text(), server)
    assert_unavailable(client, GOOD)
    assert len(loads()) == 4

    server.load("brittle")  # neither its files nor its configuration are new, so the server does nothing
    assert_unavailable(client, GOOD)
    server.unload("brittle")
    server.load("brittle")
    assert_answers(client)
    assert_unavailable(client, BAD)
    wait_for(lambda: server.log_text().count("reload 1 of at most 3 asked for") == 2, server)
    wait_for(lambda: server.log_text().count("loaded anew in") == 4, server)
    assert_answers(client)


def test_fault_without_explicit_control_stays_unavailable_and_the_log_says_why(open_server, loads):
    server, client = open_server(None)
    reason = (
        "model 'brittle' setting 'reload_on_fault': expected a server started with "
        "--model-control-mode=explicit, got no --model-control-mode; start it so; else a fault of the device "
        "leaves this instance UNAVAILABLE until a restart"
    )
    assert server.log_text().count(reason) == 1
    assert_answers(client)
    assert_unavailable(client, BAD)
    wait_for(lambda: server.log_text().count(reason) == 2, server)
    time.sleep(1)
    assert_unavailable(client, GOOD)
    assert server.poll() is None
    assert len(loads()) == 1
