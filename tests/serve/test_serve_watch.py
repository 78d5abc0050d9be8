"""`kindaware serve --watch`: one server, edited as a user does."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import urllib.request

import pytest

CONFIG = """
backend: "python"
max_batch_size: 8
input [ { name: "X", data_type: TYPE_FP32, dims: [ 1 ] } ]
output [ { name: "Y", data_type: TYPE_FP32, dims: [ 1 ] } ]
instance_group [ { kind: KIND_GPU } ]
"""
ADDS = """
import json
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        print("SIZE", json.loads(args["model_config"])["max_batch_size"], flush=True)

    def execute(self, requests):
        values = [pb_utils.get_input_tensor_by_name(one, "X").as_numpy() for one in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", one + 1)]) for one in values]
"""


class Terminal:
    """What the command prints, line by line."""

    def __init__(self, *args):
        self.lines = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kindaware.cli", "serve", *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip())
        self.lines.put(None)

    def wait_for(self, text):
        """Return the lines up to one with the text."""
        lines = []
        while not lines or text not in lines[-1]:
            line = self.lines.get(timeout=90)
            assert line is not None, lines
            lines.append(line)
        return lines


@pytest.fixture
def start():
    terminals = []

    def start(*args):
        terminals.append(Terminal(*args))
        return terminals[-1]

    yield start
    for one in terminals:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGINT)
            one.process.wait(60)
        one.reader.join(30)
        one.process.stdout.close()


def ask(url, model="adds"):
    body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}
    request = urllib.request.Request(f"http://{url}/v2/models/{model}/infer", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)["outputs"][0]["data"]


@pytest.mark.server
@pytest.mark.wheel_server("a stub that ends while it loads stops it from loading more")
def test_serve_watch_reloads_what_changes_and_keeps_what_serves(tmp_path, write_model, start):
    model = write_model(tmp_path / "models", "adds", ADDS, config=CONFIG)
    code, config = model / "1" / "model.py", model / "config.pbtxt"
    log = tmp_path / "server.log"
    ports = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
    terminal = start(
        tmp_path / "models", "--watch", "--kind", "CPU", "--set", "adds.max_batch_size=4", *ports,
        "--log-file", log,
    )  # fmt: skip
    lines = terminal.wait_for("Ctrl-C")
    url = next(line.split()[1] for line in lines if line.startswith("  http"))
    assert any(line.startswith("adds: ready after ") for line in lines)
    assert "  set      adds.max_batch_size=4" in lines
    assert "SIZE 4" in log.read_text()

    code.write_text(ADDS.replace("one + 1", "one + 2"))
    terminal.wait_for("reloaded adds in ")
    assert ask(url) == [3.0]

    code.write_text("def (")
    lines = terminal.wait_for("goes on serving")
    assert lines[-2] == "adds: not reloaded: SyntaxError: invalid syntax (" + os.path.relpath(code) + ":1)"
    assert ask(url) == [3.0]

    code.write_text("import nothing_here\n" + ADDS)
    lines = terminal.wait_for("goes on serving")
    text = "adds: not reloaded: ModuleNotFoundError: No module named 'nothing_here' ("
    assert lines[-2].startswith(text), lines
    assert lines[-2].endswith("models/adds/1/model.py:1, in <module>)")
    assert ask(url) == [3.0]

    code.write_text(ADDS)
    terminal.wait_for("reloaded adds in ")
    config.write_text(CONFIG + "dynamic_batching { }\n")
    terminal.wait_for("reloaded adds in ")
    assert log.read_text().count("SIZE 4") == 4
    assert "SIZE 8" not in log.read_text()

    write_model(tmp_path / "models", "more", ADDS, config=CONFIG)
    terminal.wait_for("loaded more in ")
    assert ask(url, "more") == [2.0]

    code.write_text("import os; os._exit(3)\n" + ADDS)
    lines = terminal.wait_for("starts again at the next change")
    assert "adds: not reloaded: " in "".join(lines)
    assert ask(url) == [2.0]
    code.write_text(ADDS.replace("one + 1", "one + 5"))
    terminal.wait_for("Triton is ready again")
    assert ask(url) == [6.0]

    code.write_text("import nothing_here\n" + ADDS)
    terminal.wait_for("goes on serving")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.wait(25) == 0  # without --exit-timeout-secs the server takes 30 s now
    assert config.read_text().count("max_batch_size: 8") == 1


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (
            ["s3://bucket/models"],
            "--watch: expected models on this machine, to reload, got s3://bucket/models",
        ),
        (["models", "--", "--model-control-mode=poll"], "got --model-control-mode in what follows --"),
    ],
)
def test_serve_watch_refuses_what_it_can_not_watch(tmp_path, write_model, start, args, text):
    write_model(tmp_path / "models", "adds", ADDS)
    args = [tmp_path / "models" if one == "models" else one for one in args]
    terminal = start("--watch", *args)

    assert text in terminal.wait_for("kindaware serve:")[-1]
    assert terminal.process.wait(30) == 2
