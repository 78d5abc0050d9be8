"""The probe of the pods against a real server: what it says of a healthy one, and of one whose stub died."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from deploy_kit import write_model

from kindaware._deployment import probe
from kindaware._deployment.pod import RESTRICTED
from kindaware._server.keeper import list_children
from kindaware.testing import TritonServer

PROBE = Path(probe.__file__)
KEY = "kindaware-admin=secret"

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("probed") / "models"
    write_model(repository)
    # The test kit itself asks for the index of the repository.
    restricted = RESTRICTED.replace("model-repository,", "")
    options = [f"--http-restricted-api={restricted}:{KEY}", f"--grpc-restricted-protocol={restricted}:{KEY}"]
    with TritonServer(repository, args=options) as running:
        yield running


def port_of(server):
    return f"--port={server.http_url.rpartition(':')[2]}"


def find_faults(server, *args):
    """Return what the probe prints; here other servers may have stubs, too."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = probe.main([*args, port_of(server), f"--server={server.pid}"])
    assert (code == 0) == (printed.getvalue() == "")
    return printed.getvalue()


def run_in_pod(*args):
    """Run the probe as a pod does, with nothing but Python; return its exit code and what it prints."""
    command = [sys.executable, "-I", "-S", PROBE, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.stderr == ""
    return done.returncode, done.stdout


def ask(server, path, *, headers=None):
    request = urllib.request.Request(f"http://{server.http_url}{path}", headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_healthy_server_passes(server):
    assert find_faults(server, "live", "--stubs=2") == ""
    assert find_faults(server, "ready", "--stubs=2", "add") == ""
    assert run_in_pod("ready", "--stubs=2", "add", port_of(server)) == (0, "")


def test_model_that_is_not_there_is_not_ready(server):
    assert find_faults(server, "ready", "add", "nope").startswith("/v2/models/nope/ready says 400")


def test_server_that_is_not_there_is_neither_live_nor_ready():
    for what in ("live", "ready"):
        code, printed = run_in_pod(what, "--port=1")
        assert code == 1
        assert printed.startswith("/v2/health/live has no answer: ConnectionRefusedError")


@pytest.mark.wheel_server("what is restricted by default may differ")
def test_endpoints_that_harm_others_need_the_key(server):
    for path in ("/v2/systemsharedmemory/status", "/v2/trace/setting", "/v2/logging"):
        assert ask(server, path) == 403
        assert ask(server, path, headers={"kindaware-admin": "secret"}) == 200
    for path in ("/v2/health/ready", "/v2/models/add/stats", "/v2/models/add/config", "/v2/models/add"):
        assert ask(server, path) == 200


@pytest.mark.wheel_server("from 26.01 on the server notices")
def test_dead_stub_is_noticed_where_the_server_does_not(server):
    victim, *_ = [pid for pid in list_children(server.pid) if is_stub(pid)]
    os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while is_stub(victim):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ask(server, "/v2/models/add/ready") == 200
    assert ask(server, "/v2/health/ready") == 200
    for args in (["live"], ["ready", "add"]):
        said = find_faults(server, *args, "--stubs=2")
        assert said == "1 of 2 Python stubs run: a model's process has died\n"


def is_stub(pid):
    return (
        Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].endswith(b"triton_python_backend_stub")
    )
