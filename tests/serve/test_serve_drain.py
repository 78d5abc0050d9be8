"""A server that has to end: it says so at once, answers what it has, refuses the rest, is gone in time."""

import http.client
import json
import os
import queue
import signal
import threading
import time

import numpy as np
import pytest

from kindaware.testing import ServerError, TritonServer

pytestmark = pytest.mark.server

SLOW = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        values = [pb_utils.get_input_tensor_by_name(one, "X").as_numpy() for one in requests]
        time.sleep(max(float(one[0]) for one in values))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", one)]) for one in values]
"""
CALLER = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        found = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X")
            time.sleep(float(x.as_numpy()[0]))
            asked = pb_utils.InferenceRequest(
                model_name="slow", requested_output_names=["Y"], inputs=[pb_utils.Tensor("X", x.as_numpy())]
            ).exec()
            if asked.has_error():
                raise pb_utils.TritonModelException(asked.error().message())
            found.append(pb_utils.InferenceResponse(asked.output_tensors()))
        return found
"""
STREAM = """
import threading, time
import numpy
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for one in requests:
            num_items = int(pb_utils.get_input_tensor_by_name(one, "X").as_numpy()[0])
            given = (one.get_response_sender(), num_items)
            threading.Thread(target=self.send, args=given, daemon=True).start()

    def send(self, sender, num_items):
        for number in range(num_items):
            time.sleep(0.1)
            sender.send(
                pb_utils.InferenceResponse([pb_utils.Tensor("Y", numpy.array([number], "float32"))])
            )
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
STREAM_CONFIG = """
backend: "python"
max_batch_size: 0
input [ { name: "X", data_type: TYPE_FP32, dims: [ -1 ] } ]
output [ { name: "Y", data_type: TYPE_FP32, dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU } ]
model_transaction_policy { decoupled: true }
"""
COUNTS = """
import asyncio
import torch
from kindaware import KindAwareModel

class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    async def stream(self, X):
        for number in range(int(X)):
            await asyncio.sleep(0.1)
            yield [torch.tensor([float(number)])]
"""
MODELS = ["caller", "slow", "stream"]
FAST = ["--disable-auto-complete-config"]


@pytest.fixture
def repository(tmp_path, write_model):
    write_model(tmp_path / "models", "slow", SLOW, count=2)
    write_model(tmp_path / "models", "caller", CALLER)
    write_model(tmp_path / "models", "stream", STREAM, config=STREAM_CONFIG)
    return tmp_path / "models"


def ask(url, method, path, value=None):
    connection = http.client.HTTPConnection(url, timeout=30)
    tensor = {"name": "X", "datatype": "FP32", "shape": [1], "data": [value]}
    try:
        connection.request(method, path, None if value is None else json.dumps({"inputs": [tensor]}))
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"{}")
    finally:
        connection.close()


class Clients:
    """Requests in threads of their own: `found` has what has become of each."""

    def __init__(self, http_url, grpc_url):
        self.http_url, self.grpc_url = http_url, grpc_url
        self.found = {}
        self._threads = []

    def start(self, name, ask, *args):
        thread = threading.Thread(target=lambda: self.found.update({name: ask(*args)}), daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self):
        for thread in self._threads:
            thread.join(40)
        return self.found

    def over_http(self, model, value):
        try:
            return ask(self.http_url, "POST", f"/v2/models/{model}/infer", value)[0]
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__

    def over_grpc(self, model, value):
        import tritonclient.grpc as grpc_client
        from tritonclient.utils import InferenceServerException

        with grpc_client.InferenceServerClient(self.grpc_url) as client:
            try:
                return float(client.infer(model, [tensor(value)]).as_numpy("Y")[0])
            except InferenceServerException as error:
                return error.status()

    def stream(self, num_items, model="stream"):
        import tritonclient.grpc as grpc_client

        answers = queue.Queue()
        with grpc_client.InferenceServerClient(self.grpc_url) as client:
            client.start_stream(callback=lambda result, error: answers.put((result, error)))
            client.async_stream_infer(model, [tensor(num_items)], enable_empty_final_response=True)
            items = []
            while True:
                result, error = answers.get(timeout=40)
                if error is not None:
                    return items, f"{error.status()}: {error.message()}"
                response = result.get_response()
                items += [float(result.as_numpy("Y")[0])] if response.outputs else []
                if response.parameters["triton_final_response"].bool_param:
                    return items, "end"


def tensor(value):
    import tritonclient.grpc as grpc_client

    return grpc_client.InferInput("X", [1], "FP32").set_data_from_numpy(np.array([value], np.float32))


def grpc_health(url):
    """What gRPC's own health service says: 1 is serving, 2 is not."""
    import grpc

    with grpc.insecure_channel(url) as channel:
        return channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5)


def test_drain_answers_all_that_is_in_flight_and_refuses_what_is_new(repository):
    with TritonServer(repository, models=MODELS, args=FAST) as server:
        clients = Clients(server.http_url, server.grpc_url)
        serving = (ask(server.http_url, "GET", "/v2/health/ready")[0], grpc_health(server.grpc_url))
        clients.start("http", clients.over_http, "slow", 2.0)
        clients.start("grpc", clients.over_grpc, "slow", 2.0)
        clients.start("caller", clients.over_grpc, "caller", 1.5)
        clients.start("stream", clients.stream, 25)
        time.sleep(0.5)
        draining = threading.Thread(target=server.drain, args=(30.0,), kwargs={"notice_seconds": 0.5})
        draining.start()
        time.sleep(0.3)
        noticed = (ask(server.http_url, "GET", "/v2/health/ready")[0], grpc_health(server.grpc_url))
        still_served = clients.over_grpc("slow", 0.0)
        time.sleep(0.7)
        refused = (clients.over_http("caller", 0.0), clients.over_grpc("caller", 0.0))
        draining.join(30)
        found = clients.join()
        states = {one.name: one.state for one in server.models()}
        begun = time.monotonic()
        server.stop()

        assert (serving[0], noticed[0]) == (200, 400)
        assert serving[1] != noticed[1]
        assert still_served == 0.0
        assert refused == (404, "StatusCode.NOT_FOUND")
        assert found == {
            "http": 200,
            "grpc": 2.0,
            "caller": 1.5,
            "stream": ([float(number) for number in range(25)], "end"),
        }
        assert set(states.values()) == {"UNAVAILABLE"}
        assert time.monotonic() - begun < 10


def test_stop_with_drain_cuts_off_streams_and_a_client_that_never_lets_go(repository, write_model):
    import tritonclient.grpc as grpc_client
    from tritonclient.utils import InferenceServerException

    write_model(repository, "counts", COUNTS, config=STREAM_CONFIG)
    server = TritonServer(repository, models=["counts", "slow", "stream"], args=FAST).start()
    clients = Clients(server.http_url, server.grpc_url)
    clients.start("stream", clients.stream, 10_000)
    clients.start("counts", clients.stream, 10_000, "counts")
    is_over = threading.Event()
    answers = []

    def keep_sending(client):
        while not is_over.is_set():
            try:
                client.infer("slow", [tensor(0.0)], client_timeout=5)
                answers.append("answered")
            except InferenceServerException as error:
                answers.append(error.status())
            time.sleep(0.01)

    with grpc_client.InferenceServerClient(server.grpc_url) as client:
        clients.start("sticky", keep_sending, client)
        time.sleep(1)
        begun = time.monotonic()
        server.stop(drain_seconds=2)
        seconds = time.monotonic() - begun
        is_over.set()
        items, end = clients.join()["stream"]
        _, told = clients.join()["counts"]

    assert seconds < 12
    assert items == list(range(len(items)))
    assert len(items) > 20
    assert end.startswith("StatusCode.UNAVAILABLE")
    assert told.startswith("None: model 'counts' request ''")
    assert "expected the model to stay loaded until the stream has ended, got its end" in told
    assert answers[0] == "answered"
    assert set(answers) <= {"answered", "StatusCode.NOT_FOUND", "StatusCode.UNAVAILABLE"}
    assert "StatusCode.NOT_FOUND" in answers


def test_stop_with_drain_without_explicit_control_is_refused_and_the_server_goes_on(shared_server):
    with pytest.raises(
        ServerError, match="drain: expected a server with explicit model control, got one with"
    ):
        shared_server.stop(drain_seconds=1)

    assert shared_server.poll() is None


FREE_PORTS = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]


def wait_ready(process):
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "ready":
            return event
    raise AssertionError(process.stderr.read())


def test_serve_sigterm_answers_what_is_in_flight_and_ends_in_time(repository, start):
    process = start(repository, *FREE_PORTS, "--drain-seconds", "15", "--json", "--", *FAST)
    ready = wait_ready(process)
    clients = Clients(ready["http"], ready["grpc"])
    kept = http.client.HTTPConnection(ready["http"])  # does nothing, and stays open
    kept.connect()
    clients.start("grpc", clients.over_grpc, "caller", 1.5)
    clients.start("stream", clients.stream, 30)
    time.sleep(0.5)

    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    out, errors = process.communicate(timeout=40)
    seconds = time.monotonic() - begun
    kept.close()

    events = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0, errors
    assert clients.join() == {"grpc": 1.5, "stream": ([float(number) for number in range(30)], "end")}
    assert [one["event"] for one in events if one["event"] != "log"] == [
        "stopping",
        *["draining"] * sum(one["event"] == "draining" for one in events),
        "stopped",
    ]
    assert any("stream" in one["models"] for one in events if one["event"] == "draining")
    assert seconds < 12


def test_serve_second_signal_does_not_wait(repository, start):
    process = start(repository, *FREE_PORTS, "--drain-seconds", "60", "--json", "--", *FAST)
    ready = wait_ready(process)
    clients = Clients(ready["http"], ready["grpc"])
    clients.start("stream", clients.stream, 10_000)
    time.sleep(1)

    begun = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(2)
    os.kill(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=40)

    assert time.monotonic() - begun < 15
    assert process.returncode == 0
    events = [json.loads(line) for line in out.splitlines()]
    assert ["stream" in one["models"] for one in events if one["event"] == "cut_off"] == [True]
    assert clients.join()["stream"][1].startswith("StatusCode.UNAVAILABLE")
