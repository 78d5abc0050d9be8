"""Stubs of a real server that are killed, exit or hang, and what its clients see."""

import http.client
import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing

import pytest

from kindaware._server.healing.stubs import read_stub
from kindaware._server.keeper import list_children
from kindaware.testing import TritonServer

pytestmark = pytest.mark.server

FREE_PORTS = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
COMPLETE = "--disable-auto-complete-config"
MAX_HEALS = 2
HANG_SECONDS = 2.0

MODEL = """
import os, time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        folder = args["model_repository"]
        if os.path.exists(folder + "/dies"):
            os._exit(3)
        if os.path.exists(folder + "/slow"):
            time.sleep(30)

    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            if x[0] == -1:
                os._exit(3)
            time.sleep(float(x[0]))
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", x)]))
        return responses
"""
CALLS = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.call(request) for request in requests]

    def call(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "X")
        called = pb_utils.InferenceRequest(model_name="echo", requested_output_names=["Y"], inputs=[x]).exec()
        if called.has_error():
            return pb_utils.InferenceResponse([], pb_utils.TritonError(called.error().message()))
        return pb_utils.InferenceResponse([pb_utils.get_output_tensor_by_name(called, "Y")])
"""
ENSEMBLE = """
platform: "ensemble"
input [ { name: "X", data_type: TYPE_FP32, dims: [ -1 ] } ]
output [ { name: "Y", data_type: TYPE_FP32, dims: [ -1 ] } ]
ensemble_scheduling { step [ {
  model_name: "echo" model_version: -1 input_map { key: "X" value: "X" } output_map { key: "Y" value: "Y" }
} ] }
"""
KINDAWARE = """
import time
from kindaware import KindAwareModel

class TritonPythonModel(KindAwareModel):
    warmup = "off"

    def load(self):
        pass

    def forward(self, X):
        self.wait(float(X[0]))
        return X

    def wait(self, seconds):
        time.sleep(seconds)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory, write_model):
    models = tmp_path_factory.mktemp("heal") / "models"
    for name in ("echo", "other", "brittle"):
        write_model(models, name, MODEL)
    write_model(models, "two", MODEL, count=2)
    write_model(models, "calls", CALLS)
    write_model(models, "kind", KINDAWARE)
    write_model(models, "ensemble", None, config=ENSEMBLE)
    return models


@pytest.fixture(scope="module")
def server(repository):
    with TritonServer(
        repository,
        heal=True,
        max_heals=MAX_HEALS,
        heal_window_seconds=30,
        hang_seconds=HANG_SECONDS,
        health_port=0,
        args=[COMPLETE],
    ) as server:
        yield server


def find_stubs(server_pid, model):
    found = [read_stub(pid) for pid, state in list_children(server_pid).items() if state != "Z"]
    return [one.pid for one in found if one is not None and one.owner([model])]


def kill(server, model):
    """Kill one of a model's stubs, the youngest, for one that it has lost before may linger; returns when."""
    os.kill(max(find_stubs(server.pid, model)), signal.SIGKILL)
    return time.monotonic()


def ask(url, model, value=0.0, timeout=60):
    """Return an answer's values, or the server's words about why there is none."""
    body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1], "data": [value]}]}
    request = urllib.request.Request(f"http://{url}/v2/models/{model}/infer", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return json.load(response)["outputs"][0]["data"]
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)["error"]


def in_background(*args):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask(*args)))
    thread.start()
    return thread, answers


def wait_until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return time.monotonic()


def num_heals(server, model):
    return server.health()[model].num_heals


def health_of(url, path):
    with closing(http.client.HTTPConnection(url, timeout=10)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.load(response)


def test_killed_stub_under_load_is_not_ready_at_once_and_serves_again_and_others_notice_nothing(server):
    answers = {"echo": [], "other": []}
    ended = threading.Event()

    def load(model):
        while not ended.wait(0.02):
            answers[model].append(ask(server.http_url, model))

    threads = [threading.Thread(target=load, args=[model]) for model in ("echo", "other")]
    for thread in threads:
        thread.start()
    try:
        before = num_heals(server, "echo")
        killed = kill(server, "echo")
        away = wait_until(lambda: not server.is_model_ready("echo"), 5)
        wait_until(lambda: num_heals(server, "echo") == before + 1)
        back = wait_until(lambda: ask(server.http_url, "echo") == [0.0])
    finally:
        ended.set()
        for thread in threads:
            thread.join()

    assert away - killed < 1
    assert back - killed < 4
    assert all(one == [0.0] for one in answers["other"])


def test_one_dead_stub_of_two_is_healed_and_the_other_answers_what_it_has(server):
    thread, answers = in_background(server.http_url, "two", 1.5)
    time.sleep(0.3)
    stubs = find_stubs(server.pid, "two")
    before = num_heals(server, "two")
    kill(server, "two")
    wait_until(lambda: num_heals(server, "two") == before + 1)
    assert len(set(find_stubs(server.pid, "two")) - set(stubs)) == 2
    assert [ask(server.http_url, "two") for _ in range(4)] == [[0.0]] * 4
    thread.join()
    assert answers[0] == [1.5] or "not healthy" in answers[0]


def test_model_that_others_call_serves_them_again(server):
    before = num_heals(server, "echo")
    kill(server, "echo")
    wait_until(lambda: num_heals(server, "echo") == before + 1)
    assert ask(server.http_url, "ensemble") == [0.0]
    assert ask(server.http_url, "calls") == [0.0]
    wait_until(lambda: health_of(server.health_url, "/readyz/ensemble")[0] == 200)


def test_slow_call_within_the_limit_is_no_hang(server):
    num_deaths = sum(one.num_deaths for one in server.health().values())
    thread, answers = in_background(server.http_url, "kind", HANG_SECONDS - 0.5)
    thread.join()
    assert answers == [[HANG_SECONDS - 0.5]]
    time.sleep(1)  # another look
    assert sum(one.num_deaths for one in server.health().values()) == num_deaths


def test_call_that_does_not_return_is_ended_and_the_log_shows_where_it_was(server):
    thread, answers = in_background(server.http_url, "kind", 1000.0)
    wait_until(lambda: num_heals(server, "kind") == 1)
    assert ask(server.http_url, "kind") == [0.0]
    thread.join()
    assert "not healthy" in answers[0]
    assert server.health()["kind"].reason.endswith("s: a call of its code has not returned")
    assert '/kind/1/model.py", line 16 in wait' in server.log_text()


def test_hand_written_model_that_hangs_is_ended_when_requests_wait(server):
    before = num_heals(server, "other")
    threads = [in_background(server.http_url, "other", 1000.0)]
    time.sleep(0.5)
    threads.append(in_background(server.http_url, "other", 0.0))
    wait_until(lambda: num_heals(server, "other") == before + 1)
    assert ask(server.http_url, "other") == [0.0]
    for thread, _ in threads:
        thread.join()
    assert "and none is answered" in server.health()["other"].reason


def test_models_that_die_at_once_are_all_healed(server):
    models = ("other", "two", "calls")
    before = {model: num_heals(server, model) for model in models}
    for model in models:
        kill(server, model)
    wait_until(lambda: all(num_heals(server, model) == before[model] + 1 for model in models))
    for model in models:
        assert ask(server.http_url, model) == [0.0]


def test_model_that_dies_with_each_request_is_given_up_and_the_others_serve(server):
    for number in range(MAX_HEALS):
        assert "not healthy" in ask(server.http_url, "brittle", -1)
        wait_until(lambda n=number: num_heals(server, "brittle") == n + 1)
    assert "not healthy" in ask(server.http_url, "brittle", -1)
    wait_until(lambda: "brittle" in server.given_up)

    text = (
        "model 'brittle': expected at most 2 death(s) within 30 s, got one more death: its process ended with"
    )
    assert server.given_up["brittle"].startswith(f"{text} status 3; ")
    assert not server.is_model_ready("brittle")
    assert [health_of(server.health_url, f"/{page}")[0] for page in ("livez", "readyz")] == [503, 503]
    assert health_of(server.health_url, "/livez/echo")[0] == 200
    assert health_of(server.health_url, "/healthz")[1]["models"]["brittle"]["state"] == "given up"
    assert ask(server.http_url, "echo") == [0.0]

    server.load("brittle")
    assert ask(server.http_url, "brittle") == [0.0]
    wait_until(lambda: not server.given_up)
    assert health_of(server.health_url, "/livez")[0] == 200
