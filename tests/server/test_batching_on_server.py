"""Many requests in flight on the real server: batched, none swapped, the guilty ones alone failing."""

import importlib.util
import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.server


def load_mixer():
    path = Path(__file__).parent / "models/mixer/1/model.py"
    spec = importlib.util.spec_from_file_location("mixer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Mixer().eval()


def test_execute_with_64_requests_on_two_instances_answers_each_its_own_rows(client):
    random = np.random.default_rng(20261122)
    arrays = [random.standard_normal((1 + n % 5, 16), dtype=np.float32) for n in range(64)]
    before = client.statistics("mixer")
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda array: client.infer("mixer", INPUT=array), arrays))
    after = client.statistics("mixer")

    mixer = load_mixer()
    for array, answer in zip(arrays, answers, strict=True):
        expected = np.concatenate([mixer(torch.from_numpy(row[None])).numpy() for row in array])
        assert answer["OUTPUT"].tobytes() == expected.tobytes()
    assert len({int(pid) for answer in answers for pid in answer["PID"].ravel()}) == 2
    assert max(int(rows) for answer in answers for rows in answer["ROWS"].ravel()) > 5
    assert after.execution_count - before.execution_count < 64


def test_execute_with_two_bad_requests_among_30_fails_those_two_with_their_codes(client):
    random = np.random.default_rng(7)
    good = [random.standard_normal((1 + n % 3, 8), dtype=np.float32) for n in range(30)]
    wrong_shape = np.ones((2, 5), np.float32)
    wrong_data = np.full((1, 8), 5000, np.float32)
    arrays = [*good[:10], wrong_shape, *good[10:20], wrong_data, *good[20:]]

    def send(array):
        try:
            return client.infer("picky", INPUT=array)["OUTPUT"]
        except InferenceServerException as error:
            return error

    before = client.statistics("picky")
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(send, arrays))
    after = client.statistics("picky")

    shape_error, data_error = answers.pop(10), answers.pop(20)
    assert shape_error.status() == "StatusCode.INVALID_ARGUMENT"
    assert "expected inputs of a shape that forward takes, got {'INPUT': [2, 5]}" in shape_error.message()
    assert data_error.status() == "StatusCode.INTERNAL"
    assert "got ValueError: a number is above 1000" in data_error.message()
    for array, answer in zip(good, answers, strict=True):
        assert answer.tobytes() == (array * np.arange(8, dtype=np.float32)).tobytes()
    assert after.execution_count - before.execution_count < 32


def test_request_whose_id_is_not_utf8_costs_no_other_its_answer(client, server):
    """Over HTTP the server takes any bytes for an id."""

    def send(request_id, number):
        text = b'{"id": "%s", "inputs": [{"name": "INPUT", "datatype": "FP32", "shape": [1, 8], "data": %s}]}'
        body = text % (request_id, str([number] * 8).encode())
        request = urllib.request.Request(f"http://{server.http_url}/v2/models/picky/infer", body)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            return error.read()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, [b"a", b"bad \xff", b"fine \xff", b"b"], [1, 5000, 2, 3]))
    error = json.loads(answers.pop(1))["error"]
    assert error.startswith("model 'picky' request 'bad \\\\xff': expected forward to return, got ValueError")
    for answer, number in zip(answers, [1, 2, 3], strict=True):
        assert b'"data":[0.0,%d.0,' % number in answer


def test_preprocess_refuses_a_request_with_its_own_text_and_code(client):
    with pytest.raises(InferenceServerException) as refused:
        client.infer("picky", INPUT=np.ones((1, 101), np.float32))
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert refused.value.message() == "INPUT: expected at most 100 columns; send fewer"


def test_execute_when_forward_raises_logs_the_traceback_once(client, server):
    marker = "\n    ValueError: a number is above 1000"  # the last line of a traceback
    before = server.log_text().count(marker)
    with pytest.raises(InferenceServerException, match="a number is above 1000"):
        client.infer("picky", INPUT=np.full((1, 8), 2000, np.float32))
    assert server.log_text().count(marker) == before + 1
