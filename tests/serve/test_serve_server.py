"""A real server in a `with` block: what it serves, and in which interpreter."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import urllib.request
from pathlib import Path

import numpy
import pytest

from kindaware._server.location import locate_server
from kindaware.testing import ServerError, TritonServer

pytestmark = pytest.mark.server

FAST = ["--disable-auto-complete-config"]
"""Saves the second that the server takes to end a stub of its own."""


def infer(server, model, values):
    body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [len(values)], "data": values}]}
    request = urllib.request.Request(
        f"http://{server.http_url}/v2/models/{model}/infer", data=json.dumps(body).encode()
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)["outputs"][0]["data"]


def read_probe(server):
    """What an echo model found in its own process."""
    line = next(line for line in server.log_text().splitlines() if line.startswith("PROBE "))
    return json.loads(line.removeprefix("PROBE "))


@pytest.mark.parametrize("model", ["echo", "other"])
def test_server_answers_from_each_repository(shared_server, model):
    assert infer(shared_server, model, [1.5, -2.0]) == [1.5, -2.0]
    assert shared_server.model_state(model) == "READY"


def test_server_port_zero_listens_on_loopback_where_it_says(shared_server):
    urls = [shared_server.http_url, shared_server.grpc_url, shared_server.metrics_url]

    assert len(set(urls)) == 3
    for url in urls:
        host, port = url.split(":")
        assert host == "127.0.0.1"
        socket.create_connection((host, int(port)), timeout=5).close()
    with urllib.request.urlopen(f"http://{shared_server.metrics_url}/metrics", timeout=5) as response:
        assert b"nv_inference_request_success" in response.read()


def test_server_listens_on_no_other_address(shared_server):
    port = int(shared_server.http_url.split(":")[1])

    with socket.socket() as other:
        other.settimeout(5)
        assert other.connect_ex(("127.0.0.2", port)) != 0


def test_server_stub_runs_this_interpreter_with_its_packages(shared_server):
    found = read_probe(shared_server)

    assert found["version"] == sys.version
    assert found["prefix"] == sys.prefix
    assert found["numpy"] == numpy.__version__
    assert found["numpy_file"] == numpy.__file__


@pytest.mark.skipif(not sysconfig.get_config_var("Py_ENABLE_SHARED"), reason="needs a shared libpython")
def test_server_stub_loads_the_libpython_of_this_interpreter(shared_server):
    with open("/proc/self/maps") as maps:
        ours = sorted({line.split()[-1] for line in maps if "libpython" in line})

    assert read_probe(shared_server)["libraries"] == ours


@pytest.mark.wheel_server("of its layout")
def test_server_library_path_is_libpython_then_the_wheel_then_what_was_there(shared_server):
    paths = read_probe(shared_server)["ld"].split(":")

    assert Path(paths[0]) == shared_server.log_path.parent / "lib"
    assert Path(paths[1]) == shared_server.location.libraries
    assert paths[2:] == [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path]


def test_server_is_in_a_session_of_its_own(shared_server):
    assert os.getsid(shared_server.pid) != os.getsid(0)


@pytest.mark.wheel_server("of its layout")
def test_server_interpreter_without_numpy_is_refused(tmp_path, write_model):
    write_model(tmp_path / "models", "echo")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)

    with pytest.raises(
        ServerError, match=f"numpy in {tmp_path}/venv: .* got none installed; {tmp_path}/venv/bin"
    ):
        TritonServer(tmp_path / "models", python=tmp_path / "venv/bin/python").start()


def test_server_reports_what_kindaware_instances_logged(shared_server):
    reports = sorted(shared_server.instances(), key=lambda report: report.name)

    assert [report.name for report in reports] == ["echo_0_0", "echo_0_1"]
    assert {(report.kind, report.device, report.threads, report.threads_reason) for report in reports} == {
        ("CPU", "cpu", 1, "2 cores / 2 instances")
    }


def test_server_model_that_is_nowhere_is_named_with_those_there(shared_server):
    with pytest.raises(ServerError, match=r"model 'ecko': .* got none; they have: echo, other"):
        shared_server.model_state("ecko")


def test_server_second_start_is_refused(shared_server):
    with pytest.raises(ServerError, match="expected one start, got a second"):
        shared_server.start()


def test_server_load_without_explicit_control_gives_the_servers_words(shared_server):
    with pytest.raises(
        ServerError, match=r"load of model 'echo': .*explicit model load / unload is not allowed"
    ):
        shared_server.load("echo")


@pytest.mark.wheel_server("of its layout")
def test_server_stop_leaves_nothing_but_the_log_asked_for(tmp_path, write_model, find_remains):
    write_model(tmp_path / "models", "echo", count=2)
    server = TritonServer(
        tmp_path / "models",
        models=["echo"],
        env={"KINDAWARE_TEST": "yes"},
        args=["--backend-config=python,shm-default-byte-size=2097152", *FAST],
        log_path=tmp_path / "server.log",
    )
    with server:
        process = Path(f"/proc/{server.pid}")
        environment = (process / "environ").read_text().split("\0")
        directory = re.search(r"--backend-directory=(\S+)/backends\0", (process / "cmdline").read_text())[1]
        remains = find_remains(directory)
        sizes = [Path(path).stat().st_size for path in remains if path.startswith("/dev/shm")]
        server.unload("echo")
        assert server.model_state("echo") == "UNAVAILABLE"
        server.load("echo")
        assert server.model_state("echo") == "READY"
        with pytest.raises(
            ServerError, match=r"load of model 'gone': .*failed to poll from model repository"
        ):
            server.load("gone")

    assert "KINDAWARE_TEST=yes" in environment
    assert len([line for line in remains if line.startswith("process")]) == 3
    assert sizes == [2097152, 2097152]
    assert server.returncode == 0
    assert find_remains(directory) == []
    assert "successfully loaded 'echo'" in server.log_text()
    assert server.log_text() == (tmp_path / "server.log").read_text()
    server.stop()


def test_server_killed_server_leaves_no_stub_and_no_region(tmp_path, write_model, find_remains, wait_for):
    write_model(tmp_path, "echo", count=2)
    with TritonServer(tmp_path, args=FAST) as server:
        directory = server.log_path.parent
        os.kill(server.pid, signal.SIGKILL)

        assert wait_for(lambda: server.poll() is not None)
        assert server.poll() == -signal.SIGKILL
        assert find_remains(directory) == [str(directory)]
    assert find_remains(directory) == []


def test_server_killed_parent_leaves_no_server(tmp_path, write_model, find_remains, wait_for):
    write_model(tmp_path, "echo", count=2)
    code = (
        "import sys, time; from kindaware.testing import TritonServer\n"
        "server = TritonServer(sys.argv[1], args=sys.argv[2:]).start()\n"
        "print(server.log_path.parent, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path, *FAST], stdout=subprocess.PIPE, text=True
    ) as parent:
        directory = parent.stdout.readline().strip()
        assert len(find_remains(directory)) == 6  # server, two stubs, two regions, the directory
        parent.kill()

    assert wait_for(lambda: not find_remains(directory)), find_remains(directory)


def test_server_killed_keeper_leaves_no_server(tmp_path, write_model, find_processes, find_remains, wait_for):
    write_model(tmp_path, "echo")
    with TritonServer(tmp_path, args=FAST) as server:
        directory = server.log_path.parent
        keeper = int(Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(keeper, signal.SIGKILL)

        assert wait_for(lambda: not find_processes(directory.name)), find_processes(directory.name)
        assert server.poll() is not None
    assert find_remains(directory) == []


@pytest.mark.wheel_server("of its layout")
def test_server_of_another_layout_keeps_its_libraries_and_backends(tmp_path, write_model):
    # A server laid out as in the containers: one stub, no directory of libraries that it is told of.
    write_model(tmp_path / "models", "echo")
    wheel = locate_server()
    stub = wheel.stubs[f"{sys.version_info[0]}.{sys.version_info[1]}"]
    root = tmp_path / "opt" / "tritonserver"
    for source, target in (
        (wheel.path, "bin/tritonserver"),
        (stub, "backends/python/triton_python_backend_stub"),
    ):
        (root / target).parent.mkdir(parents=True)
        (root / target).write_bytes(source.read_bytes())
        (root / target).chmod(0o755)
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        (root / "backends/python" / name).symlink_to(wheel.python_backend / name)
    libraries = f"{sysconfig.get_config_var('LIBDIR')}:{wheel.libraries}"

    with TritonServer(
        tmp_path / "models",
        tritonserver=root / "bin/tritonserver",
        args=FAST,
        env={"LD_LIBRARY_PATH": libraries},
    ) as server:
        found = read_probe(server)

    assert found["ld"] == libraries
    assert found["prefix"] == sys.prefix
