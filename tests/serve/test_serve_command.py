"""`kindaware serve` as a user types it, in a process and a session of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import typer

COMMAND = [sys.executable, "-m", "kindaware.cli"]
FREE_PORTS = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "commands/serve.md"


def run(*args, **kwargs):
    return subprocess.run(
        [*COMMAND, *map(str, args)], capture_output=True, text=True, check=False, timeout=60, **kwargs
    )


def read_block(process):
    """What the command prints once the server is ready."""
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith("Ctrl-C"):
            break
    return lines


@pytest.mark.server
def test_serve_ctrl_c_prints_one_block_ends_with_zero_and_leaves_nothing(
    tmp_path, write_model, reporting_source, start, find_processes
):
    write_model(tmp_path / "a", "echo", reporting_source, count=2)
    write_model(tmp_path / "b", "plain")
    process = start(tmp_path / "a", tmp_path / "b", *FREE_PORTS, "-v", "--", "--id=mine")
    lines = read_block(process)
    values = dict(line.split(maxsplit=1) for line in lines[1:6])
    with urllib.request.urlopen(f"http://{values['http']}/v2", timeout=5) as response:
        name = json.load(response)["name"]
    log = Path(values["log"])
    stubs = find_processes(str(tmp_path / "a" / "echo"))
    prefix = re.search(rb"(kindaware-server-\w+)", Path(f"/proc/{stubs[0]}/cmdline").read_bytes())[1].decode()

    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # by an impatient user
    rest, errors = process.communicate(timeout=30)

    assert lines[0] == "Triton is ready"
    assert list(values) == ["http", "grpc", "metrics", "server", "log"]
    assert re.match(r"Triton \d+\.\d+\.\d+ \w.*: /.*/tritonserver$", values["server"])
    assert [line.split(maxsplit=4) for line in lines[7:11]] == [
        ["model", "version", "instance", "kind", "device"],
        ["echo", "1", "echo_0_0", "CPU", "cpu"],
        ["echo", "1", "echo_0_1", "CPU", "cpu"],
        ["plain", "1", "plain_0_0", "CPU", "not reported"],
    ]
    assert [line.split()[:4] for line in lines[13:15]] == [
        ["kindaware", "infer", "echo", "--random"],
        ["kindaware", "infer", "plain", "--random"],
    ]
    assert name == "mine"
    assert process.returncode == 0
    assert rest == ""
    assert "successfully loaded 'echo'" in errors
    assert "Traceback" not in errors
    assert len(stubs) == 2
    assert find_processes(prefix) == []
    assert list(Path("/dev/shm").glob(f"{prefix}*")) == []
    assert not log.exists()


@pytest.mark.server
def test_serve_kind_cpu_serves_a_gpu_repository_and_says_so(tmp_path, write_model, start):
    model = write_model(tmp_path, "big")
    config = (model / "config.pbtxt").read_text().replace("KIND_CPU", "KIND_GPU")
    (model / "config.pbtxt").write_text(config)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    process = start(tmp_path, *FREE_PORTS, "--kind", "CPU", "--", "--disable-auto-complete-config")

    lines = read_block(process)
    log = Path(lines[5].split()[1]).read_text()
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=30)[1]

    note = (
        "kindaware: kind CPU in place of what the configurations say, which are left as they are: "
        "big (KIND_GPU)\n"
    )
    assert [line.split()[:4] for line in lines[8:9]] == [["big", "1", "big_0_0", "CPU"]]
    assert errors.startswith(note)
    assert log.startswith(note)
    assert (model / "config.pbtxt").read_text() == config


@pytest.mark.server
def test_serve_sigterm_while_loading_ends_with_zero_and_leaves_nothing(
    tmp_path, write_model, start, find_processes, wait_for
):
    model = write_model(tmp_path, "sleeps", "import time\ntime.sleep(60)\n")
    process = start(tmp_path, *FREE_PORTS)
    assert wait_for(lambda: find_processes(str(model)))

    process.terminate()
    out, errors = process.communicate(timeout=30)

    assert (process.returncode, out) == (0, "")
    assert errors == "stopping the server ...\n"
    assert find_processes(str(model)) == []


@pytest.mark.server
def test_serve_model_that_fails_says_why_and_where_the_log_is(tmp_path, write_model):
    write_model(tmp_path, "bad", "raise ValueError('expected weights')\n")

    done = run("serve", tmp_path, *FREE_PORTS)

    log = Path(re.search(r"the whole log: (\S+)", done.stderr)[1])
    assert done.returncode == 1
    assert "kindaware serve: tritonserver: expected a server that is ready, got its end" in done.stderr
    assert "model 'bad': ValueError: expected weights" in done.stderr
    assert "ValueError: expected weights" in log.read_text()
    log.unlink()


RAISES_WHEN_ASKED = """
class TritonPythonModel:
    def execute(self, requests):
        raise ValueError("too much:\\nof it")
"""


@pytest.mark.server
def test_serve_request_that_fails_is_a_line_in_the_terminal_and_a_traceback_in_the_log(
    tmp_path, write_model, start
):
    write_model(tmp_path / "models", "raises", RAISES_WHEN_ASKED)
    log = tmp_path / "server.log"
    process = start(
        tmp_path / "models", *FREE_PORTS, "--log-file", log, "--", "--disable-auto-complete-config"
    )
    values = dict(line.split(maxsplit=1) for line in read_block(process)[1:6])
    body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1], "data": [1]}]}
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(
            f"http://{values['http']}/v2/models/raises/infer", json.dumps(body).encode(), timeout=30
        )
    caught.value.close()

    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=30)[1]

    traceback = re.compile(
        r"^E.*raises_0_0.*message: ValueError: too much:\n    of it\n    \n    At:\n"
        r"      /.*/1/model.py\(4\): execute$",
        re.MULTILINE,
    )
    line = (
        f"raises: a request failed: ValueError: too much: ({tmp_path}/models/raises/1/model.py:4, in execute)"
    )
    assert line in errors.splitlines()
    assert traceback.search(log.read_text())
    assert "I1" not in errors


@pytest.mark.server
def test_serve_server_that_dies_by_itself_is_an_error(tmp_path, write_model, start):
    write_model(tmp_path / "models", "echo")
    log = tmp_path / "server.log"
    process = start(
        tmp_path / "models", *FREE_PORTS, "--log-file", log, "--", "--disable-auto-complete-config"
    )
    read_block(process)
    server = int(re.search(r" (\d+) http_server.cc", log.read_text())[1])

    os.kill(server, signal.SIGKILL)
    errors = process.communicate(timeout=30)[1]

    assert process.returncode == 1
    assert "expected a server that runs until Ctrl-C, got its end by itself with status -9" in errors
    assert f"the whole log: {log}" in errors


@pytest.mark.server
def test_serve_port_taken_names_it(tmp_path, write_model):
    write_model(tmp_path, "echo")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        done = run("serve", tmp_path, *FREE_PORTS, "--grpc-port", port)

    assert done.returncode == 1
    assert done.stderr.startswith("kindaware serve: --grpc-port, in Python grpc_port: expected a free port")
    assert "the whole log" not in done.stderr


def test_serve_unusable_server_is_one_clear_line(tmp_path, write_model):
    write_model(tmp_path, "echo")
    done = run("serve", tmp_path, "--tritonserver", tmp_path / "no")

    assert done.returncode == 1
    assert done.stderr == (
        f"kindaware serve: tritonserver: expected an executable file, got {tmp_path}/no, "
        "which does not exist; "
        "give the path of the tritonserver executable, or leave the option out\n"
    )


def test_serve_without_repository_is_a_usage_error():
    done = run("serve")

    assert done.returncode == 2
    assert "MODEL_REPOSITORY" in done.stderr


def test_version_is_the_librarys():
    from kindaware import __version__

    assert run("--version").stdout == f"kindaware {__version__}\n"


def test_main_without_typer_says_what_to_install():
    code = (
        "import sys; sys.modules['typer'] = None; from kindaware.cli import main; main(['serve', 'models'])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr == "kindaware: expected typer, got no such package; pip install typer rich\n"


def test_serve_every_option_is_on_the_page_and_in_the_help():
    from kindaware.cli._app import app

    command = typer.main.get_command(app).commands["serve"]
    page, help_text = PAGE.read_text(), run("serve", "--help", env={**os.environ, "COLUMNS": "200"}).stdout
    options = [name for parameter in command.params for name in parameter.opts if name.startswith("-")]

    assert "--http-port" in options
    for parameter in command.params:
        for name in parameter.opts:
            if name.startswith("-"):
                assert f"`{name}" in page, name
                assert name in help_text, name
                assert parameter.help, name
    assert "127.0.0.1" in help_text
    assert "8002" in help_text


def test_serve_page_names_no_option_that_is_not_there():
    from kindaware.cli._app import app

    command = typer.main.get_command(app).commands["serve"]
    options = {name for parameter in command.params for name in parameter.opts}
    table = re.findall(r"^\| `(-[\w-]+)", PAGE.read_text(), flags=re.MULTILINE)

    assert table
    assert set(table) <= {*options, "-h"}
