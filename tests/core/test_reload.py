"""A reload is asked for once, with a number that goes up, and only where the server would do it."""

import json
import logging
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from core_kit import MESSAGE, Doubler, group, make_args, make_config, start

from kindaware import ConfigError
from kindaware._config.args import InstanceArgs
from kindaware._config.model_spec import parameters_of
from kindaware._config.settings import RELOADS
from kindaware._triton import reload
from kindaware._triton.reload import CALM_SECONDS, Reload, read_model_control

LOGGER = logging.getLogger("kindaware.tests")


class Server:
    """As Triton's module, complete where it is a stand-in; notes what it is asked to load."""

    def __init__(self, *, is_stand_in=True, error=None):
        self.Tensor = SimpleNamespace(from_dlpack=None) if is_stand_in else None
        self.asked = []
        self._error = error

    def load_model(self, name, config):
        self.asked.append((name, json.loads(config), threading.current_thread()))
        if self._error is not None:
            raise self._error


@pytest.fixture
def clock(monkeypatch):
    """Seconds that only a test lets go by."""
    now = [1000.0]
    monkeypatch.setattr(reload.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def timers(monkeypatch):
    """The timers that are started; their time never comes."""
    started = []

    class Timer(threading.Timer):
        def start(self):
            started.append(self)

    monkeypatch.setattr(reload.threading, "Timer", Timer)
    return started


def open_reload(server, counts=None, **changes):
    """A reload for an instance of a model that was reloaded so often already, and so often in a row."""
    parameters = {"other": "x", "kindaware.reload_on_fault": "true"}
    if counts is not None:
        parameters[RELOADS] = counts
    args = InstanceArgs.from_dict(make_args(make_config(**changes), parameters=parameters))
    return Reload(args, parameters_of(args.config), server, LOGGER)


def carry_out(timers, server):
    """Let the time of the timers come; gives the numbers that the server was handed."""
    for timer in timers:
        timer.function(*timer.args)
    return [config["parameters"][RELOADS]["string_value"] for _, config, _ in server.asked]


def test_begin_asks_once_with_the_models_own_configuration(timers, caplog):
    caplog.set_level(logging.INFO)
    server = Server()
    request = open_reload(server, instance_group=[group(count=2)])
    request.begin()
    request.begin()
    [timer] = timers
    assert timer.daemon
    assert timer.interval > 0
    assert server.asked == []
    carry_out(timers, server)
    [(name, config, _)] = server.asked
    assert name == "m"
    assert config["parameters"].pop(RELOADS) == {"string_value": "1,1"}
    parameters = {"other": "x", "kindaware.reload_on_fault": "true"}
    assert config == json.loads(
        make_args(make_config(instance_group=[group(count=2)]), parameters=parameters)["model_config"]
    )
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.messages[0] == "model 'm': reload 1 of at most 3 asked for"
    assert caplog.messages[1].startswith("model 'm': loaded anew in ")


def test_begin_returns_before_the_server_is_asked(monkeypatch):
    monkeypatch.setattr(reload, "_DELAY_SECONDS", 0.05)
    is_asked = threading.Event()
    server = Server()
    server.load_model = lambda name, config: is_asked.set()
    open_reload(server).begin()
    assert not is_asked.is_set()
    assert is_asked.wait(10)


def test_begin_counts_up_and_stops_after_the_last(timers, caplog):
    server = Server()
    for counts in (None, "1,1", "2,2", "3,3", "4,4"):
        open_reload(server, counts).begin()
    assert carry_out(timers, server) == ["1,1", "2,2", "3,3"]
    refused = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage() for record in refused] == [
        "model 'm': expected at most 3 reloads, each within 3600 s of the one before, got another fault of "
        f"the device 0 s after reload {number}; find what breaks the device, then unload and load the model "
        "by hand; until then it answers UNAVAILABLE"
        for number in (3, 4)
    ]


@pytest.mark.parametrize(
    ("seconds", "before", "after"),
    [
        (CALM_SECONDS - 1, "5,2", ["6,3"]),
        (CALM_SECONDS - 1, "5,3", []),
        (CALM_SECONDS, "5,3", ["6,1"]),
        (CALM_SECONDS, "1,1", ["2,1"]),  # the same would be no reason for the server to load anything
    ],
)
def test_begin_after_a_long_time_counts_anew(clock, timers, seconds, before, after):
    server = Server()
    request = open_reload(server, before)
    clock[0] += seconds
    request.begin()
    assert carry_out(timers, server) == after


def test_begin_server_that_can_not_load_says_so(timers, caplog):
    server = Server(error=RuntimeError("version 1 is at UNAVAILABLE state"))
    request = open_reload(server)
    request.begin()
    carry_out(timers, server)
    assert caplog.messages[-1] == (
        "model 'm': expected the server to load it anew after the device has failed, got RuntimeError: "
        "version 1 is at UNAVAILABLE state; unload and load it by hand, or restart the server; until then it "
        "answers UNAVAILABLE"
    )
    assert caplog.records[-1].levelname == "ERROR"


@pytest.mark.parametrize(
    ("control", "got"), [("", "no --model-control-mode"), ("poll", "--model-control-mode=poll")]
)
def test_begin_without_explicit_control_never_asks_and_says_so(monkeypatch, timers, caplog, control, got):
    monkeypatch.setattr(reload, "read_model_control", lambda pid: control if pid == os.getppid() else None)
    server = Server(is_stand_in=False)
    request = open_reload(server)
    expected = (
        "model 'm' setting 'reload_on_fault': expected a server started with --model-control-mode=explicit, "
        f"got {got}; start it so; else a fault of the device leaves this instance UNAVAILABLE until a restart"
    )
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [("WARNING", expected)]
    request.begin()
    assert [(one.levelname, one.getMessage()) for one in caplog.records][1:] == [("ERROR", expected)]
    assert timers == []
    assert MESSAGE.match(expected)


def test_begin_with_explicit_control_asks(monkeypatch, timers, caplog):
    monkeypatch.setattr(reload, "read_model_control", lambda pid: "explicit")
    open_reload(Server(is_stand_in=False)).begin()
    assert len(timers) == 1
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("arguments", "control"),
    [
        ([], ""),
        (["--model-control-mode=explicit"], "explicit"),
        (["--model-control-mode", "explicit"], "explicit"),
        (["--model-control-mode=explicit", "--model-control-mode=none"], "none"),
        (["--model-repository=/x--model-control-mode=explicit"], ""),
    ],
)
def test_read_model_control_reads_the_command_line_of_a_process(arguments, control):
    code = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert read_model_control(process.pid) == control
        process.stdin.close()


def test_read_model_control_of_no_process_is_empty():
    assert read_model_control(2**31 - 1) == ""


@pytest.mark.parametrize("counts", ["", "1", "-1,1", "one,two", "1.5,1", "9" * 20 + ",1"])
def test_numbers_of_reloads_that_nobody_wrote_here_are_refused(counts):
    with pytest.raises(ConfigError, match=rf"^parameter '{RELOADS}': expected two numbers such as '4,1'"):
        open_reload(Server(), counts)


def test_initialize_takes_the_numbers_of_reloads_beside_the_settings():
    assert start(Doubler, parameters={RELOADS: "2,2"}).parameters[RELOADS] == "2,2"
