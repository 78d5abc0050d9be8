"""Calls that overlap on the real server: each request has its own answer, at the end of the model too."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from complete_models import serve_complete
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.server

MODEL = "overlapping"


@pytest.fixture(scope="module")
def overlapping_server():
    repository = Path(__file__).parent / "overlapping_models"
    with serve_complete(repository, models=[MODEL]) as server:
        yield server


@pytest.fixture
def send(overlapping_server, connect):
    """Sends rows of one number, with an id; returns the outputs, or the error that came in their place."""
    if overlapping_server.model_state(MODEL) != "READY":  # another test has unloaded it
        overlapping_server.load(MODEL)
    client = connect(overlapping_server)

    def infer(number, num_rows, request_id=""):
        rows = np.full((num_rows, 4), number, np.float32)
        try:
            answer = client.grpc.infer(
                MODEL, client.pack({"X": rows}), request_id=request_id, client_timeout=60
            )
        except InferenceServerException as error:
            return error
        return {name: answer.as_numpy(name) for name in ("Y", "IS_BUSY")}

    return infer


def assert_doubled(answer, number, num_rows):
    assert not isinstance(answer, InferenceServerException), answer
    assert answer["Y"].tolist() == [[2.0 * number] * 4] * num_rows


def until_logged(server, text, since):
    latest = time.monotonic() + 30
    while text not in server.log_text()[since:]:
        assert time.monotonic() < latest, server.log_text()
        time.sleep(0.005)


def test_each_of_many_requests_gets_its_own_rows_from_calls_that_overlap(send):
    sizes = [1 + number % 3 for number in range(60)]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(send, range(60), sizes))
    for number, (answer, num_rows) in enumerate(zip(answers, sizes, strict=True)):
        assert_doubled(answer, number, num_rows)
    assert any(answer["IS_BUSY"].any() for answer in answers)


def test_requests_that_fail_among_calls_that_overlap_fail_alone(send):
    numbers, ids = list(range(40)), [""] * 40
    numbers[10], ids[25] = -1, "bad"
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(send, numbers, [1] * 40, ids))
    refused, bad = answers.pop(10), answers.pop(24)
    assert (refused.status(), bad.status()) == ("StatusCode.INVALID_ARGUMENT", "StatusCode.INTERNAL")
    assert "expected no negative number" in refused.message()
    assert "ValueError: the bad one" in bad.message()
    for answer, number in zip(answers, [*range(10), *range(11, 25), *range(26, 40)], strict=True):
        assert_doubled(answer, number, 1)


def test_calls_in_progress_are_answered_when_the_model_is_unloaded(overlapping_server, send):
    since = len(overlapping_server.log_text())
    with ThreadPoolExecutor(2) as pool:
        # As many rows as fit in a batch: each request is a call of its own.
        first = pool.submit(send, 1, 8, "slow")
        until_logged(overlapping_server, "forward of ['slow']", since)
        second = pool.submit(send, 2, 8, "next")
        until_logged(overlapping_server, "forward of ['next']", since)
        assert not first.done()
        overlapping_server.unload(MODEL)
        assert_doubled(first.result(), 1, 8)
        assert_doubled(second.result(), 2, 8)
    until_logged(overlapping_server, "unloads", since)
