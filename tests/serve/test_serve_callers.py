"""Which models are unloaded before which: a caller first, for it may be about to call."""

import time

import pytest

from kindaware._server.callers import find_callers
from kindaware._server.drain import Drain
from kindaware._server.endpoint import ModelStatus
from kindaware._server.failure import ServerError


@pytest.fixture
def add(tmp_path):
    """Makes a model's directory, with a configuration and code."""

    def add(name, code="", config=""):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "model.py").write_text(code)
        (tmp_path / name / "config.pbtxt").write_text(config)
        return tmp_path / name

    return add


def test_find_callers_follows_names_in_code_and_in_configurations(add):
    models = {
        "a": add("a"),
        "front": add("front", code="def forward(self, X):\n    return self.call('b', X=X)\n"),
        "b": add("b", config='parameters { key: "next" value { string_value: "a" } }'),
        "ensemble": add("ensemble", config='ensemble_scheduling { step [ { model_name: "front" } ] }'),
        "remote": None,
    }

    assert find_callers(models) == {
        "a": {"b"},
        "front": {"ensemble"},
        "b": {"front"},
        "ensemble": set(),
        "remote": set(),
    }


class FakeEndpoint:
    """A server whose models are gone when they are asked for once more."""

    def __init__(self, *models):
        self.states = dict.fromkeys(models, "READY")
        self.unloaded = []

    def load(self, *args, **kwargs):
        raise ServerError("no such backend")

    def index(self):
        found = [ModelStatus(name, "1", state, "") for name, state in self.states.items()]
        self.states = {name: state for name, state in self.states.items() if state == "READY"}
        return found

    def begin_unload(self, model):
        self.states[model] = "UNLOADING"
        self.unloaded.append(model)


def drain(endpoint, models, tmp_path, **options):
    return Drain(endpoint, models, tmp_path / "end-streams", **{"seconds": 20.0, **options}).run()


def test_drain_unloads_callers_before_those_that_they_call_and_others_at_once(add, tmp_path):
    models = {"a": add("a"), "b": add("b", "call('a')"), "c": add("c", "call('b')"), "d": add("d")}
    endpoint = FakeEndpoint(*models)

    assert drain(endpoint, models, tmp_path) == []
    assert endpoint.unloaded == ["c", "d", "b", "a"]
    assert not (tmp_path / "end-streams").exists()


def test_drain_unloads_models_that_call_each_other_at_once(add, tmp_path):
    models = {"a": add("a", "call('b')"), "b": add("b", 'call("a")'), "c": add("c", 'call("a")')}
    endpoint = FakeEndpoint(*models)

    assert drain(endpoint, models, tmp_path) == []
    assert endpoint.unloaded == ["c", "a", "b"]


class BusyEndpoint(FakeEndpoint):
    """A server whose models never are gone."""

    def index(self):
        return [ModelStatus(name, "1", state, "") for name, state in self.states.items()]


@pytest.mark.parametrize("ends", [{"seconds": 0.2}, {"is_cut_short": lambda: True}])
def test_drain_at_its_end_returns_what_is_left_and_has_streams_end(add, tmp_path, ends, monkeypatch):
    monkeypatch.setattr("kindaware._server.drain._ENDING_SECONDS", 0.1)
    models = {"a": add("a"), "b": add("b", "call('a')")}
    endpoint = BusyEndpoint(*models)
    begun = time.monotonic()

    assert drain(endpoint, models, tmp_path, **ends) == ["a", "b"]
    assert endpoint.unloaded == ["b"]
    assert (tmp_path / "end-streams").exists()
    assert time.monotonic() - begun < 10


def test_drain_tells_what_it_waits_for_once_that_takes_longer(add, tmp_path, monkeypatch):
    monkeypatch.setattr("kindaware._server.drain._ENDING_SECONDS", 0.1)
    monkeypatch.setattr("kindaware._server.drain._QUIET_SECONDS", 0.1)
    told = []

    drain(BusyEndpoint("a"), {"a": add("a")}, tmp_path, seconds=0.5, on_wait=told.append)

    assert told == [["a"]]
