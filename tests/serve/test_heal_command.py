"""`kindaware serve` and `kindaware watch` when the processes of models die."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

from kindaware._errors import OptionError
from kindaware._server.failure import ServerError
from kindaware._server.healing.neighbour import check_server, find_server
from kindaware._server.healing.stubs import read_stub
from kindaware._server.keeper import list_children
from kindaware.cli.watch._session import _split
from kindaware.testing import TritonServer

FREE_PORTS = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
COMPLETE = ("--", "--disable-auto-complete-config")
MODEL = """
import os, time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        if os.path.exists(args["model_repository"] + "/slow"):
            time.sleep(60)
        if os.path.exists(args["model_repository"] + "/dies"):
            os._exit(3)

    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(one, "X").as_numpy() for one in requests]
        if any(one[0] == -1 for one in inputs):
            os._exit(3)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", one)]) for one in inputs]
"""


class Command:
    """A command with --json, and the events that it prints."""

    def __init__(self, *args):
        self.events = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kindaware.cli", *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.events.put(json.loads(line))
        self.events.put({"event": "end"})

    def wait_for(self, name):
        """Return the next event of this name, and those before it."""
        before = []
        while (event := self.events.get(timeout=60))["event"] != name:
            assert event["event"] != "end", [before, self.process.stderr.read()]
            before.append(event)
        return event, before

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        self.reader.join(30)
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def run():
    commands = []

    def run(*args):
        commands.append(Command(*args))
        return commands[-1]

    yield run
    for one in commands:
        one.close()


def ask(url, model, value=0.0):
    body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1], "data": [value]}]}
    request = urllib.request.Request(f"http://{url}/v2/models/{model}/infer", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["outputs"][0]["data"]
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)["error"]


def health_of(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def kill_stub(server_pid, model):
    stubs = [read_stub(pid) for pid in list_children(server_pid)]
    [pid] = [one.pid for one in stubs if one is not None and one.owner([model])]
    os.kill(pid, signal.SIGKILL)


def find_server_of(command):
    """Return the tritonserver of `kindaware serve`: a child of its keeper."""
    [keeper] = list_children(command.process.pid)
    [server] = list_children(keeper)
    return server


@pytest.mark.server
def test_serve_model_that_dies_too_often_ends_it_with_status_1(tmp_path, write_model, run):
    write_model(tmp_path / "models", "brittle", MODEL)
    command = run("serve", tmp_path / "models", "--json", *FREE_PORTS, "--max-heals", "1", *COMPLETE)
    url = command.wait_for("ready")[0]["http"]
    ask(url, "brittle", -1)
    died, _ = command.wait_for("died")
    assert (died["model"], died["reason"]) == ("brittle", "its process ended with status 3")
    healed, _ = command.wait_for("healed")
    assert healed["model"] == "brittle"
    assert 0 < healed["seconds"] < 10
    assert ask(url, "brittle") == [0.0]
    ask(url, "brittle", -1)
    given_up, _ = command.wait_for("given_up")
    error, _ = command.wait_for("error")
    stopped, _ = command.wait_for("stopped")

    text = "model 'brittle': expected at most 1 death(s) within 600 s, got one more death: its process ended "
    assert given_up["error"].startswith(f"{text}with status 3; find the reason")
    assert error["error"] == given_up["error"]
    assert stopped["exit_code"] == 1
    assert command.process.wait(30) == 1


@pytest.mark.server
def test_serve_ends_cleanly_while_it_heals(tmp_path, write_model, run, find_remains):
    model = write_model(tmp_path / "models", "slow", MODEL)
    log = tmp_path / "log"
    command = run("serve", tmp_path / "models", "--json", *FREE_PORTS, "--log-file", log, *COMPLETE)
    command.wait_for("ready")
    (model / "slow").touch()
    server = find_server_of(command)
    kill_stub(server, "slow")
    command.wait_for("died")
    time.sleep(1)
    command.process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    stopped, before = command.wait_for("stopped")
    assert time.monotonic() - begun < 45
    assert stopped["exit_code"] == 0
    assert {one["event"] for one in before} <= {"stopping", "log"}


@pytest.mark.server
def test_serve_without_heal_leaves_a_dead_model_alone(tmp_path, write_model, run):
    write_model(tmp_path / "models", "net", MODEL)
    command = run("serve", tmp_path / "models", "--json", *FREE_PORTS, "--no-heal", *COMPLETE)
    url = command.wait_for("ready")[0]["http"]
    kill_stub(find_server_of(command), "net")
    assert "not healthy" in ask(url, "net")
    time.sleep(1)
    assert "not healthy" in ask(url, "net")
    assert command.process.poll() is None
    os.kill(find_server_of(command), signal.SIGKILL)  # it would wait half a minute for the dead model


@pytest.mark.server
def test_watch_heals_a_server_beside_it_and_tells_the_truth(tmp_path, write_model, run):
    write_model(tmp_path / "models", "net", MODEL)
    write_model(tmp_path / "models", "other", MODEL)
    with TritonServer(tmp_path / "models", models=["net", "other"], args=COMPLETE[1:]) as server:
        options = ("--port", "0", "--json", "--max-heals", "1")
        command = run(
            "watch",
            server.http_url,
            "--metrics-url",
            server.metrics_url,
            "--grpc-url",
            server.grpc_url,
            *options,
        )
        port = command.wait_for("listening")[0]["port"]
        assert command.wait_for("watching")[0]["pid"] == server.pid
        deadline = time.monotonic() + 10
        while health_of(port, "/readyz")[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)

        kill_stub(server.pid, "net")
        command.wait_for("died")
        assert health_of(port, "/readyz/net")[0] == 503
        command.wait_for("healed")
        assert health_of(port, "/healthz")[0] == 200
        assert ask(server.http_url, "net") == [0.0]

        kill_stub(server.pid, "net")
        command.wait_for("given_up")
        assert [health_of(port, f"/livez{model}")[0] for model in ("", "/net", "/other")] == [503, 503, 200]
        assert not server.is_model_ready("net")
        assert ask(server.http_url, "other") == [0.0]
        assert command.process.poll() is None
    command.wait_for("ended")
    status, body = health_of(port, "/readyz/other")
    assert (status, body["models"]["other"]["state"]) == (503, "unknown")
    assert health_of(port, "/livez")[0] == 200  # the next server may load for long


def test_watch_nothing_that_is_no_server(tmp_path):
    with pytest.raises(ServerError, match="expected a tritonserver, got none; correct --pid"):
        check_server(os.getpid(), heals=False)
    assert find_server(1) is None


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("localhost:8000", ("localhost", 8000)),
        ("http://10.0.0.1:80/", ("10.0.0.1", 80)),
        ("localhost", ("localhost", 8000)),
        ("[::1]:9000", ("[::1]", 9000)),
    ],
)
def test_watch_url_is_an_address(url, address):
    assert _split(url) == address


@pytest.mark.parametrize("url", ["https://localhost:8000", "localhost:port", "me@localhost:1", "host/path:1"])
def test_watch_url_that_is_none_is_refused(url):
    with pytest.raises(OptionError, match="expected the address of a server's HTTP"):
        _split(url)


def test_serve_hang_seconds_without_heal_is_refused(tmp_path, run, write_model):
    write_model(tmp_path / "models", "net", MODEL)
    command = run("serve", tmp_path / "models", "--json", *FREE_PORTS, "--no-heal", "--hang-seconds", "3")
    error, _ = command.wait_for("error")
    assert error["error"] == "hang_seconds: expected heal=True with it, got heal=False; add it"
    assert command.process.wait(30) == 2
