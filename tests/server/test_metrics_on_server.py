"""The counts of an instance on the real server's /metrics."""

import time
from pathlib import Path

import numpy as np
import pytest
from complete_models import serve_complete
from metrics_text import read
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.server
MODELS = Path(__file__).parent / "models"


def wait_for(server, client, key, value):
    """Send a request now and then, since counts are handed over after a batch."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        time.sleep(0.3)
        if read(server).get(key, 0) >= value:
            return read(server)
        client.infer("counted", X=np.ones((1, 2), np.float32))
    raise AssertionError(f"{key} never reached {value}: {read(server)}")


def test_metrics_after_good_and_refused_requests_count_both(server, client):
    before = read(server)
    for _ in range(5):
        client.infer("counted", X=np.ones((3, 2), np.float32))
    with pytest.raises(InferenceServerException, match="expected no negative number"):
        client.infer("counted", X=-np.ones((1, 2), np.float32))
    after = wait_for(server, client, ("kindaware_rows_total",), before.get(("kindaware_rows_total",), 0) + 15)

    def added(*key):
        return after.get(key, 0) - before.get(key, 0)

    assert added("kindaware_errors_total", "INVALID_ARG") == 1
    assert added("kindaware_requests_total") == added("kindaware_batches_total") >= 5
    assert added("kindaware_rows_total") == added("kindaware_batches_total") + 2 * 5
    for stage in ("read", "copy_in", "forward", "copy_out", "respond"):
        assert 0 < added("kindaware_stage_seconds_total", stage) < 10


def test_metrics_of_a_server_without_metrics_cost_nothing(connect):
    with serve_complete(MODELS, models=["counted"], args=["--allow-metrics=false"]) as running:
        answer = connect(running).infer("counted", X=np.ones((1, 2), np.float32))
        assert answer["Y"].tolist() == [[2, 2]]
        time.sleep(1.2)
        answer = connect(running).infer("counted", X=np.ones((1, 2), np.float32))
        assert answer["Y"].tolist() == [[2, 2]]


def test_metrics_that_are_off_do_not_appear(server, client):
    client.infer("counted_silently", X=np.ones((1, 2), np.float32))
    time.sleep(1.2)
    client.infer("counted_silently", X=np.ones((1, 2), np.float32))
    assert read(server, "counted_silently") == {}
