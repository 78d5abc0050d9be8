"""Servers of other projects: asleep but for their turn, and gone in the end."""

import sys
import time
from pathlib import Path

import pytest
import torch
from benchmarks.run import UnavailableError
from benchmarks.servers import others
from benchmarks.servers.load import ask
from benchmarks.servers.target import plain_target

SERVER = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = str(child.pid).encode()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def state_of(pid):
    """`S` sleeps, `T` is stopped, None is gone."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None
    return None if state in "ZX" else state


def becomes(pid, state):
    """Whether a process gets there; a signal takes its time."""
    deadline = time.monotonic() + 10
    while state_of(pid) != state and time.monotonic() < deadline:
        time.sleep(0.01)
    return state_of(pid) == state


@pytest.fixture
def port():
    (port,) = others._free_ports(1)
    return port


def test_server_sleeps_between_its_turns_and_leaves_no_process(port):
    command = [sys.executable, "-c", SERVER, port]
    with others._process(command, f"http://127.0.0.1:{port}/") as group:
        target = plain_target(f"127.0.0.1:{port}", "/", torch.zeros(1, 1), group)
        assert becomes(group, "T")
        with others.awake(target):
            child = int(ask(target)[0].rpartition(b"\r\n\r\n")[2])
            assert becomes(child, "S")
        assert becomes(group, "T")
        assert becomes(child, "T")

    assert becomes(group, None)
    assert becomes(child, None)


def test_server_that_ends_at_once_is_unavailable_in_its_own_words(port):
    command = [sys.executable, "-c", "raise SystemExit('/a/folder/libthing.so: no such thing')"]
    with (
        pytest.raises(UnavailableError, match=r"did not start: /a/folder/libthing.so: no such thing"),
        others._process(command, f"http://127.0.0.1:{port}/"),
    ):
        pass


def test_litserve_that_cannot_be_installed_is_unavailable(tmp_path, monkeypatch):
    monkeypatch.setattr(others, "LITSERVE", "/there/is/no/such/package")
    with pytest.raises(UnavailableError, match="can't be installed: "):
        others.make_litserve_environment(tmp_path / "venv")
