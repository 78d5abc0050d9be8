"""Calls of other models on the real server: tensors, errors, what is passed on, streams."""

import asyncio
import re
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from complete_models import serve_complete
from streaming_client import run, stream
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.server

MODELS = Path(__file__).parent / "call_models"
X = [[3.0, 5.0]]


@pytest.fixture(scope="module")
def calling_server():
    with serve_complete(MODELS) as server:
        yield server
    assert server.returncode == 0
    assert "Exit timeout expired" not in server.log_text()


def inputs(how, values=X):
    rows = np.array(values, np.float32)
    return {"X": rows, "HOW": np.array([[how.encode()]] * len(rows), dtype=object)}


def infer(server, how, model="calls", values=X, **options):
    packed = []
    for name, array in inputs(how, values).items():
        one = grpcclient.InferInput(name, list(array.shape), "FP32" if name == "X" else "BYTES")
        packed.append(one.set_data_from_numpy(array))
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        return client.infer(model, packed, client_timeout=60, **options).as_numpy("Y").tolist()


@pytest.mark.parametrize("how", ["text", "bf16", "parameters", "count"])
def test_call_gives_what_the_other_model_answers(calling_server, how):
    assert infer(calling_server, how) == X


def test_call_sends_what_forward_has_computed(calling_server):
    assert infer(calling_server, "plain") == [[4, 6]]


def test_call_passes_id_and_remaining_time_on_and_what_is_given(calling_server):
    infer(calling_server, "plain", request_id="r1", timeout=9_000_000)
    infer(calling_server, "parameters", request_id="r2")
    log = calling_server.log_text()
    [left] = re.findall(r"echo of r1: timeout (\d+), parameters {}", log)
    assert 8_000_000 < int(left) < 9_000_000
    assert "echo of given: timeout 77, parameters {'k': 3}" in log


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("nobody", "Model 'nobody' is not ready"),
        ("nobody_stream", "Model 'nobody' is not ready"),
        ("version", "Model 'echo' is not ready"),
        ("name", "unexpected inference input 'Z' for model 'echo'"),
        ("type", "inference input 'X' data-type is 'FP64', but model 'echo' expects 'FP32'"),
        ("output", "unexpected inference output 'Z' for model 'echo'"),
        ("decoupled", "Please use 'decoupled=True'"),
        ("refused", "nothing of that kind"),
        ("count_error", "X is negative"),
    ],
)
def test_call_that_fails_raises_the_servers_text(calling_server, how, text):
    before = calling_server.log_text().count("Traceback")
    with pytest.raises(InferenceServerException) as refused:
        infer(calling_server, how)
    assert text in refused.value.message()
    assert refused.value.status() == "StatusCode.INTERNAL"
    assert calling_server.log_text().count("Traceback") == before


def test_call_is_bounded_by_the_time_of_the_request_where_the_called_queue_keeps_to_it(calling_server):
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(infer, calling_server, "queued")
        time.sleep(0.1)
        started = time.monotonic()
        with pytest.raises(InferenceServerException, match="Request timeout expired"):
            infer(calling_server, "queued", timeout=50_000)
        assert time.monotonic() - started < 5
        assert first.result() == X


@pytest.mark.parametrize("how", ["plain", "count"])
def test_call_async_runs_calls_side_by_side(calling_server, how):
    assert infer(calling_server, how, "calls_async") == X
    assert infer(calling_server, "together", "calls_async")[0][0] > 1  # rows that the other model had at once


def test_call_async_that_fails_raises_the_servers_text(calling_server):
    with pytest.raises(InferenceServerException, match="nothing of that kind"):
        infer(calling_server, "refused", "calls_async")


def test_call_for_a_request_whose_id_is_not_utf8_is_refused(calling_server):
    """Over HTTP the server takes any bytes for an id, and a call would pass it on."""
    url = f"http://{calling_server.http_url}/v2/models/calls/infer"
    body = b"""{"id": "odd \xff", "inputs": [
        {"name": "X", "datatype": "FP32", "shape": [1, 2], "data": [3, 5]},
        {"name": "HOW", "datatype": "BYTES", "shape": [1, 1], "data": ["plain"]}
    ]}"""
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, body, timeout=30)
    with caught.value as refused:
        text = refused.read().decode()
    assert refused.code == 400
    assert "xff': expected an id in UTF-8, got UnicodeDecodeError" in text


def test_call_of_many_clients_at_once_answers_each_its_own(calling_server):
    models = ["calls", "calls_async"] * 40
    values = [[[float(n + 1), 0.0]] for n in range(len(models))]
    with ThreadPoolExecutor(20) as pool:
        answers = pool.map(lambda one: infer(calling_server, "plain", *one), zip(models, values, strict=True))
    expected = [[[n + 2, 1]] if n % 2 == 0 else [[n + 1, 0]] for n in range(len(models))]
    assert list(answers) == expected


def test_stream_of_calls_gives_each_item(calling_server):
    async def three(client):
        calls = [stream(client, "calls_stream", **inputs("", [[4 + n, 0]])) for n in range(3)]
        return await asyncio.gather(*calls)

    answers = run(calling_server, three)
    got = [[item["Y"][0].tolist() for item in answer.items] for answer in answers]
    assert got == [[[4 + n + k, k] for k in range(4 + n)] for n in range(3)]
    assert [answer.errors for answer in answers] == [[]] * 3


def test_call_stream_left_early_leaves_the_server_well(calling_server):
    """The fixture's end is part of it: an answer that nobody read would keep the server from ending."""
    assert infer(calling_server, "abandon", values=[[30.0, 0.0]]) == [[30, 0]]
    assert infer(calling_server, "count") == X
