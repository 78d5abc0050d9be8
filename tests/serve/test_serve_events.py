"""`kindaware serve --json`: a line of JSON for each event."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from kindaware._server.failure import ServerError
from kindaware.cli.serve import _events
from kindaware.cli.serve._events import EventView, LogEvents, print_lines
from kindaware.cli.serve._progress import LoadingProgress

LINE = 'I1122 15:53:39.893168 3766 model_lifecycle.cc:472] "{}"\n'
ERROR = LINE.replace("I1122", "E1122")
FREE_PORTS = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
FAILS = """
class TritonPythonModel:
    def execute(self, requests):
        raise ValueError("too much")
"""
BREAKS = """
class TritonPythonModel:
    def initialize(self, args):
        raise ValueError("expected weights")

    def execute(self, requests):
        return []
"""


def events_of(text):
    events = [json.loads(line) for line in text.splitlines()]
    assert all(one.pop("time").endswith("+00:00") for one in events)
    return events


def test_loading_has_an_event_for_each_model_with_seconds_and_the_reason(tmp_path, capsys):
    log = tmp_path / "log"
    with LoadingProgress(log, EventView(()).open_display(["a", "b"])):
        log.write_text(
            LINE.format("loading: a:1")
            + LINE.format("successfully loaded 'a'")
            + ERROR.format("failed to load 'b' version 1: Internal: ValueError: no weights")
            + LINE.format("failed to load 'b'")
        )

    loading, loaded, failed = events_of(capsys.readouterr().out)
    assert loading == {"event": "loading", "model": "a"}
    assert (loaded["event"], loaded["model"], loaded["seconds"] >= 0) == ("loaded", "a", True)
    assert failed.pop("seconds") >= 0
    assert failed == {"event": "failed", "model": "b", "error": "ValueError: no weights"}


def test_log_has_an_event_for_each_failed_batch_and_each_warning():
    entry = "{} 1122 15:53:41.540504 3766 model.py:4] {}\n".replace(" 1122", "1122")
    log = LogEvents()
    text = log.feed(
        entry.format("I", json.dumps("routine"))
        + entry.format("W", json.dumps("a warning"))
        + entry.format(
            "E",
            json.dumps(
                "model 'net': error 5f0c91d2 failed 2 request(s), ids ['7', '']: model.py:9, in run: "
                "ValueError: no"
            ),
        )
    )
    text += log.close()

    warning, failed = events_of(text)
    assert warning == {"event": "log", "level": "warning", "source": "model.py:4", "text": "a warning"}
    assert failed == {
        "event": "request_failed",
        "model": "net",
        "request_ids": ["7", None],
        "error_id": "5f0c91d2",
        "error": "ValueError: no",
        "file": "model.py",
        "line": 9,
        "function": "run",
    }


def test_reload_has_an_event(capsys):
    view = EventView(())
    view.reloaded("net", "reloaded", 1.23456)
    view.not_reloaded("net", "SyntaxError: no", is_served=True)
    assert events_of(capsys.readouterr().out) == [
        {"event": "reloaded", "model": "net", "seconds": 1.235},
        {"event": "failed", "model": "net", "error": "SyntaxError: no", "is_served": True},
    ]


def test_error_is_an_event_and_a_line_for_people(capsys, tmp_path):
    error = ServerError("it ended\n\nmodel 'a': ...", models={"a": "Internal: ValueError: no\n\nAt:\n"})
    EventView(()).failed(error, tmp_path / "log")
    printed = capsys.readouterr()
    assert events_of(printed.out) == [
        {"event": "error", "error": "it ended", "models": {"a": "ValueError: no"}, "log": None}
    ]
    assert printed.err.startswith("kindaware serve: it ended\n")


def test_reader_that_has_gone_ends_the_command(monkeypatch):
    signals = []
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as gone:
        monkeypatch.setattr("sys.stdout", gone)
        monkeypatch.setattr(_events.os, "kill", lambda _, number: signals.append(number))
        print_lines("event\n")
    assert signals == [signal.SIGTERM]


@pytest.mark.parametrize("option", ["--verbose", "--examples", "--log-format json"])
def test_text_and_events_are_refused_together(option):
    command = [sys.executable, "-m", "kindaware.cli", "serve", "models", "--json", *option.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--json with {option}: expected one of them, got both" in done.stderr


@pytest.mark.server
def test_serve_json_tells_of_the_start_a_failed_request_and_the_end(tmp_path, write_model, start):
    write_model(tmp_path / "models", "fails", FAILS)
    process = start(tmp_path / "models", *FREE_PORTS, "--json", "--", "--disable-auto-complete-config")
    events = []
    while not events or events[-1]["event"] != "ready":
        events += events_of(process.stdout.readline())
    body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1], "data": [1]}]}
    url = f"http://{events[-1]['http']}/v2/models/fails/infer"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, json.dumps(body).encode(), timeout=30)
    caught.value.close()
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    after = events_of(out)

    assert [one["event"] for one in events] == ["starting", "loading", "loaded", "ready"]
    assert events[-1]["instances"] == [
        {"model": "fails", "version": "1", "instance": "fails_0_0", "kind": "CPU", "device": "not reported"}
    ]
    [failed] = [one for one in after if one["event"] == "request_failed"]
    assert (failed["model"], failed["error"]) == ("fails", "ValueError: too much")
    assert (failed["file"], failed["line"]) == (str(tmp_path / "models/fails/1/model.py"), 4)
    assert after[-1] == {"event": "stopped", "exit_code": 0}
    assert errors == ""


@pytest.mark.server
def test_serve_json_of_a_model_that_fails_ends_with_its_reason(tmp_path, write_model, start):
    write_model(tmp_path / "models", "bad", BREAKS)
    log = tmp_path / "server.log"
    process = start(tmp_path / "models", *FREE_PORTS, "--json", "--log-file", log)
    out, errors = process.communicate(timeout=120)

    place = f"{tmp_path}/models/bad/1/model.py:4, in initialize"
    error, stopped = events_of(out)[-2:]
    assert error["models"] == {"bad": f"ValueError: expected weights ({place})"}
    assert error["log"] == str(log)
    assert stopped == {"event": "stopped", "exit_code": 1}
    assert errors.startswith("kindaware serve: tritonserver: expected a server that is ready")
