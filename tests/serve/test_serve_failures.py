"""Models that do not load, and servers that do not start."""

import re
import socket
from pathlib import Path

import pytest

from kindaware._server import server as server_module
from kindaware.testing import ServerError, TritonServer

pytestmark = pytest.mark.server

RAISES = """
class TritonPythonModel:
    def initialize(self, args):
        raise ValueError("weights of 'net': expected a file,\\ngot | nothing; give one")
"""
SYNTAX_ERROR = "class TritonPythonModel\n"
ENDS_ON_IMPORT = "import os\nos._exit(3)\n"
LONG_REASON = """
class TritonPythonModel:
    def initialize(self, args):
        raise ValueError("a" * 700)
"""
HELD_BY_A_THREAD = """
import threading, time
class TritonPythonModel:
    def initialize(self, args):
        threading.Thread(target=time.sleep, args=(600,)).start()
        raise ValueError("no weights")
"""
SLEEPS = "import time\ntime.sleep(60)\n"


def test_server_failed_models_show_their_exceptions(tmp_path, write_model):
    write_model(tmp_path, "raises", RAISES, count=2)
    write_model(tmp_path, "syntax", SYNTAX_ERROR)
    write_model(tmp_path, "torn", config="input [")
    write_model(tmp_path, "good")

    with pytest.raises(ServerError) as caught, TritonServer(tmp_path):
        pass

    text = "weights of 'net': expected a file,\ngot | nothing; give one"
    assert f"model 'raises': ValueError: {text}" in str(caught.value)
    assert "model.py(4): initialize" in str(caught.value)
    assert "SyntaxError: expected ':' (model.py, line 1)" in caught.value.models["syntax"]
    assert "failed to read text proto" in caught.value.models["torn"]
    assert set(caught.value.models) == {"raises", "syntax", "torn"}
    assert "error: creating server" in caught.value.log


def test_server_without_exit_on_error_serves_the_others(tmp_path, write_model):
    write_model(tmp_path, "raises", RAISES)
    write_model(tmp_path, "good")

    with TritonServer(tmp_path, exit_on_error=False) as server:
        states = {status.name: status.state for status in server.models()}
        reasons = {status.name: status.reason for status in server.models()}

    assert states == {"raises": "UNAVAILABLE", "good": "READY"}
    assert "expected a file,\ngot | nothing" in reasons["raises"]


@pytest.mark.wheel_server("servers from 25.08 on get over a missing file without exit_on_error")
@pytest.mark.parametrize("exit_on_error", [True, False])
def test_server_missing_model_file_is_refused_before_the_server_waits_for_it(
    tmp_path, write_model, exit_on_error
):
    write_model(tmp_path, "nothing", source=None)

    with pytest.raises(ServerError, match=r"model 'nothing': expected its code in .*/nothing/1/model.py"):
        TritonServer(tmp_path, exit_on_error=exit_on_error).start()


@pytest.mark.wheel_server("servers from 25.08 on notice a stub that ends while it loads")
def test_server_loads_that_can_not_end_say_why(tmp_path, write_model):
    write_model(tmp_path, "good")
    write_model(tmp_path, "nothing", source=None)
    write_model(tmp_path, "ends", ENDS_ON_IMPORT)
    write_model(tmp_path, "raises", LONG_REASON)

    with TritonServer(tmp_path, models=["good"], stop_timeout_seconds=1) as server:
        with pytest.raises(ServerError, match=r"model 'nothing': expected its code in"):
            server.load("nothing")
        with pytest.raises(ServerError) as caught:
            server.load("raises")
        with pytest.raises(ServerError, match="the end of a stub that the server goes on waiting for"):
            server.load("ends")

    assert "a" * 700 in str(caught.value)
    assert re.search(r"/raises/1/model.py\(4\): initialize", str(caught.value))


def test_server_cache_beside_it_is_found_and_another_is_not_waited_for(tmp_path, write_model):
    write_model(tmp_path, "echo")
    fast = "--disable-auto-complete-config"

    with TritonServer(tmp_path, args=["--cache-config=local,size=1048576", fast]) as server:
        assert re.search(r"cache_enabled +\| 1 ", server.log_text())
    with pytest.raises(ServerError, match=r"one that could not be created \(.*libtritoncache_none.so"):
        TritonServer(
            tmp_path, args=["--cache-config=none,size=1", fast], exit_on_error=False, stop_timeout_seconds=1
        ).start()


@pytest.mark.skipif(bool(list(Path("/dev").glob("nvidia[0-9]*"))), reason="needs a machine without a GPU")
def test_server_gpu_model_without_a_gpu_is_told_how_to_run_on_the_cpu(tmp_path, write_model):
    model = write_model(tmp_path, "big")
    config = (model / "config.pbtxt").read_text()
    (model / "config.pbtxt").write_text(config.replace("KIND_CPU", "KIND_GPU"))

    with pytest.raises(ServerError, match=r"correct 'big': .* without a GPU, kindaware serve --kind CPU"):
        TritonServer(tmp_path, args=["--disable-auto-complete-config"]).start()


def test_server_option_that_there_is_not_is_named(tmp_path, write_model):
    write_model(tmp_path, "echo")

    with pytest.raises(ServerError) as caught:
        TritonServer(tmp_path, args=["--no-such"]).start()

    assert "its end with status 1; correct the options that it is given" in str(caught.value)
    assert str(caught.value).endswith("tritonserver: unrecognized option '--no-such'")


def test_server_failed_model_held_by_a_thread_beside_one_that_loads_names_both(tmp_path, write_model):
    write_model(tmp_path, "held", HELD_BY_A_THREAD)
    write_model(tmp_path, "sleeps", SLEEPS)

    with pytest.raises(ServerError) as caught:
        TritonServer(tmp_path, args=["--disable-auto-complete-config"], startup_timeout_seconds=60).start()

    assert "got a stub that failed and does not end while loading 'sleeps'; correct 'held'" in str(
        caught.value
    )
    assert "model 'held': ValueError: no weights" in str(caught.value)
    assert "a thread that it has started, and that is no daemon, holds it" in caught.value.models["held"]


@pytest.mark.wheel_server("servers from 25.08 on notice a stub that ends while it loads")
def test_server_model_that_ends_its_process_does_not_hang(tmp_path, write_model):
    write_model(tmp_path, "ends", ENDS_ON_IMPORT)

    with pytest.raises(
        ServerError, match=r"the server goes on waiting for while loading 'ends'; look at its model"
    ):
        TritonServer(tmp_path, startup_timeout_seconds=30).start()


def test_server_start_that_takes_too_long_names_the_model_and_leaves_nothing(
    tmp_path, write_model, find_processes
):
    model = write_model(tmp_path, "sleeps", SLEEPS)

    with pytest.raises(
        ServerError, match=r"got none within 2 s while loading 'sleeps'; look at its model.py"
    ):
        TritonServer(tmp_path, startup_timeout_seconds=2).start()
    assert find_processes(str(model)) == []


def test_server_chosen_port_lost_before_the_server_listens_is_replaced(tmp_path, write_model, monkeypatch):
    write_model(tmp_path, "echo")
    launched = []

    def launch_and_take_the_port(options):
        started = server_module.launch_server_itself(options)
        launched.append(started.ports["--http-port"])
        if len(launched) == 1:
            thief.bind(("127.0.0.1", launched[0]))
            thief.listen()
        return started

    monkeypatch.setattr(server_module, "launch_server_itself", server_module.launch_server, raising=False)
    monkeypatch.setattr(server_module, "launch_server", launch_and_take_the_port)
    with socket.socket() as thief, TritonServer(tmp_path, args=["--disable-auto-complete-config"]) as server:
        assert len(launched) == 2
        assert server.http_url == f"127.0.0.1:{launched[1]}"
        assert Path(f"/proc/{server.pid}").exists()
