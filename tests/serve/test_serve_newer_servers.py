"""Servers of 2026, as far as their owner sees them: a program that stands in for one."""

import json
import sys
from pathlib import Path

import pytest

from kindaware._server import server as server_module
from kindaware._server.log import last_lines
from kindaware.cli.serve._block import write_block
from kindaware.testing import ServerError, TritonServer

PROGRAM = Path(__file__).with_name("newer_server.py")


@pytest.fixture
def make(tmp_path, write_model):
    """Makes a server that does what the keywords say, laid out as a tritonserver outside of /opt."""
    root = tmp_path / "triton"
    for name in ("bin", "backends", "caches"):
        (root / name).mkdir(parents=True)
    program = root / "bin" / "tritonserver"
    program.write_text(f"#!{sys.executable}\n{PROGRAM.read_text()}")
    program.chmod(0o755)
    write_model(tmp_path / "models", "net")

    def make(options=None, **job):
        return TritonServer(
            tmp_path / "models",
            tritonserver=program,
            env={"NEWER_SERVER": json.dumps(job)},
            **{"startup_timeout_seconds": 30, "stop_timeout_seconds": 5, **(options or {})},
        )

    return make


def test_server_model_that_says_not_ready_is_loaded_and_named(make):
    with make(states={"net": "READY", "warm": "READY"}, not_ready=["net"]) as server:
        assert server.model_state("net") == "READY"
        assert not server.is_model_ready("net")
        assert server.is_model_ready("warm")
        block = write_block(server).splitlines()

    assert "  net 1 is loaded, and says that it is not ready" in block
    assert not any("warm 1 is loaded" in line for line in block)


def test_server_waits_for_models_that_are_being_loaded(make):
    with make(states={"net": "LOADING", "bad": "UNAVAILABLE"}) as server:
        assert server.model_state("net") == "READY"
        assert server.model_state("bad") == "UNAVAILABLE"


def test_server_model_that_loads_for_ever_is_waited_for_until_the_time_is_over(make, monkeypatch):
    log = ['I0801 10:00:00.000000 1 model_lifecycle.cc:472] "loading: net:1"']
    with pytest.raises(ServerError, match="got none within 1 s while loading 'net'"):
        make({"startup_timeout_seconds": 1}, live=False, log=log).start()


def test_server_that_notices_a_dead_stub_in_its_own_time_is_waited_for(make, monkeypatch):
    monkeypatch.setattr(server_module, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(server_module, "LONG_GRACE_SECONDS", 3.0)

    # It keeps the dead child when it has noticed, and goes on loading for longer than the time of grace.
    with make({"exit_on_error": False}, dies=1.5, loads_on=4.0) as server:
        assert "stub has ended" in server.log_text()


def test_server_that_never_notices_a_dead_stub_is_given_up(make, monkeypatch):
    monkeypatch.setattr(server_module, "LONG_GRACE_SECONDS", 1.0)

    with pytest.raises(ServerError, match="the end of a stub that the server goes on waiting for"):
        make({"exit_on_error": False}, dies=None).start()


def test_server_load_that_waits_for_a_dead_stub_is_given_up(make, monkeypatch):
    monkeypatch.setattr(server_module, "LONG_GRACE_SECONDS", 1.0)

    with (
        make() as server,
        pytest.raises(ServerError, match="the end of a stub that the server goes on waiting for"),
    ):
        server.load("net")


def test_server_load_that_is_refused_gives_the_whole_reason(make):
    refusal = "load failed for model 'net': ValueError: " + "x" * 700 + "\n\nAt:\n  model.py(5): initialize"

    with make(refusal=refusal) as server, pytest.raises(ServerError) as caught:
        server.load("net")

    assert str(caught.value).endswith(refusal)


def test_server_unload_that_does_not_end_says_what_can_hold_it(make):
    with make() as server, pytest.raises(ServerError) as caught:
        server.unload("net", timeout_seconds=0.2)

    assert "got state READY; look for a request that does not end, or a thread that outlives" in str(
        caught.value
    )


def test_server_that_could_not_be_created_is_not_waited_for(make):
    log = ["E0801 10:00:00.000000 1 tritonserver.cc:2607] \"Invalid argument: unable to find 'x'\""]

    with pytest.raises(ServerError, match=r"one that could not be created .*unable to find 'x'"):
        make({"exit_on_error": False}, live=False, log=log).start()


def test_server_outside_of_opt_is_told_its_directories(make, tmp_path):
    root = tmp_path / "triton"

    with make() as server:
        arguments = server.log_text().splitlines()[0]
    with make({"args": ["--backend-directory=/mine"]}) as server:
        mine = server.log_text().splitlines()[0]

    assert f"--backend-directory={root}/backends --cache-directory={root}/caches" in arguments
    assert "--repoagent-directory" not in arguments
    assert f"{root}/backends" not in mine


def test_last_lines_do_not_show_what_every_stub_of_26_04_says_at_its_end():
    end = (
        "Fatal Python error: PyThreadState_Get: the function must be called with the GIL held, but it is "
        "released\nPython runtime state: initialized\n\nThread 0x00007f0 (most recent call first):\n"
        '  File "/usr/lib/python3.12/threading.py", line 1 in wait\n  <no Python frame>\n\n'
        "Extension modules: numpy, torch._C (total: 2)\n"
    )
    other = "Fatal Python error: Segmentation fault\n"

    assert last_lines(f"before\n{end}the reason\n{end}") == "before\nthe reason"
    assert last_lines(other) == other.strip()
