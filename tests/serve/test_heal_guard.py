"""What a guard does about stubs that die or hang, on children that do nothing."""

import os
import signal
import threading
import time

import pytest
from fake_stubs import FakeServer, Recorder

from kindaware._execute.beat import Beat, read_beat
from kindaware._server.failure import LostStubError, ServerError
from kindaware._server.healing import guard as guard_module
from kindaware._server.healing.budget import HealLimit
from kindaware._server.healing.guard import Guard, GuardOptions
from kindaware._server.healing.health import HealthBook

LIMIT = HealLimit()


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Starts a guard over models of so many instances each; returns the server, the events and the health."""
    monkeypatch.setattr(guard_module, "_PAUSE_SECONDS", (0.05,))
    monkeypatch.setattr(guard_module, "_LOOK_SECONDS", 0.05)
    started = []

    def watch(limit=LIMIT, hang_seconds=None, heals=True, metrics="", **counts):
        server, recorder, health = FakeServer(tmp_path, **counts), Recorder(), HealthBook()
        server.text = metrics
        options = GuardOptions(limit, hang_seconds, tmp_path, heals)
        guard = Guard(os.getpid(), server, server.load, options, recorder, health, server.metrics)
        guard.start()
        started.append((guard, server))
        deadline = time.monotonic() + 10
        while not all(one in health.models() for one in counts):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        server.calls.clear()
        return server, recorder, health, guard

    yield watch
    for guard, server in started:
        guard.close()
        server.close()


@pytest.mark.parametrize("count", [1, 2])
def test_guard_dead_stub_has_its_model_unloaded_and_loaded_again(watched, count):
    server, recorder, health, guard = watched(net=count, other=1)
    begun = time.monotonic()
    server.stubs["net"][0].kill()
    [reason] = recorder.wait_for("died", "net")
    assert time.monotonic() - begun < 1
    [seconds] = recorder.wait_for("healed", "net")

    assert seconds < 1
    assert server.calls == [("unload", "net"), ("load", "net")]
    which = "its process ended" if count == 1 else "1 of 2 processes ended"
    assert reason == f"{which} by SIGKILL, as the system does when memory runs out"
    found = health.models()["net"]
    assert (found.state, found.num_deaths, found.num_heals) == ("ready", 1, 1)
    assert health.models()["other"].num_deaths == 0
    assert guard.given_up == {}


def test_guard_stub_that_exits_is_told_with_its_status(watched):
    server, recorder, *_ = watched(net=1)
    server.stubs["net"][0].stdin.close()  # `read` fails, and is the last command
    assert recorder.wait_for("died", "net") == ["its process ended with status 1"]
    recorder.wait_for("healed", "net")


def test_guard_several_models_that_die_at_once_are_all_healed(watched):
    server, recorder, *_ = watched(a=1, b=2, c=1)
    for model in ("a", "b", "c"):
        server.stubs[model][0].kill()
    for model in ("a", "b", "c"):
        recorder.wait_for("healed", model)
    assert sorted(server.calls) == [(what, model) for what in ("load", "unload") for model in "abc"]


def test_guard_model_that_dies_too_often_is_given_up_and_stays_unloaded(watched):
    server, recorder, health, guard = watched(limit=HealLimit(2, 600), net=1)
    for _ in range(3):
        server.stubs["net"][0].kill()
        recorder.wait_for("died", "net")
        with recorder.changed:
            recorder.changed.wait_for(lambda: recorder.events[-1][0] != "died", 20)
            recorder.events = [one for one in recorder.events if one[0] != "died"]
    [text] = recorder.wait_for("gave up", "net")

    assert text.startswith(
        "model 'net': expected at most 2 death(s) within 600 s, got one more death: its process"
    )
    assert server.states["net"] == "UNAVAILABLE"
    assert server.calls.count(("load", "net")) == 2
    assert guard.given_up == {"net": text}
    assert health.models()["net"].state == "given up"

    server.load("net")  # by hand
    deadline = time.monotonic() + 10
    while guard.given_up:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert health.models()["net"].state == "ready"


def test_guard_load_that_fails_is_tried_again(watched):
    server, recorder, health, _ = watched(net=1)
    server.failures = [ServerError("no memory"), ServerError("no memory")]
    server.stubs["net"][0].kill()
    recorder.wait_for("healed", "net")
    assert recorder.wait_for("not healed", "net") == ["no memory"]
    assert server.calls.count(("load", "net")) == 3
    assert health.models()["net"].num_failures == 2


def test_guard_other_stubs_of_a_dead_model_have_time_and_are_no_stubs_of_the_new_one(watched):
    server, recorder, *_ = watched(net=2)
    first, other = server.stubs["net"]
    first.kill()
    recorder.wait_for("healed", "net")
    assert other.poll() is None
    recorder.events.clear()
    server.stubs["net"][0].kill()  # of the new ones, while the old one lives
    assert recorder.wait_for("died", "net")[0].startswith("1 of 2 processes")
    recorder.wait_for("healed", "net")
    assert other.poll() is None


def test_guard_other_stubs_of_a_dead_model_are_killed_in_the_end(watched, monkeypatch):
    monkeypatch.setattr(guard_module, "_LINGER_SECONDS", 0.2)
    server, recorder, *_ = watched(net=2)
    first, other = server.stubs["net"]
    first.kill()
    recorder.wait_for("healed", "net")
    assert other.wait(10) == -signal.SIGKILL
    time.sleep(0.3)
    assert [one for one, *_ in recorder.events] == ["died", "healed"]


def test_guard_other_stubs_of_a_dead_model_are_killed_where_a_load_fails(watched):
    server, recorder, *_ = watched(net=2)
    server.failures = [ServerError("no memory on the device")]
    first, other = server.stubs["net"]
    first.kill()
    recorder.wait_for("healed", "net")
    assert other.wait(10) == -signal.SIGKILL


def test_guard_counts_models_that_the_server_cannot_give_back(watched):
    server, recorder, _, guard = watched(a=2, b=1)
    assert guard.count_stuck() == 0
    for stub in server.stubs["a"]:
        stub.kill()
    server.stubs["b"][0].kill()
    old = server.stubs["b"][0]
    for model in ("a", "b"):
        recorder.wait_for("healed", model)
    assert guard.count_stuck() == 2  # the dead stubs of one model count once
    old.wait()  # as a server does that has unloaded it
    assert guard.count_stuck() == 1


def test_guard_end_loads_ends_the_stubs_of_models_that_load(watched):
    server, *_, guard = watched(net=1, other=1)
    begun, goes_on = threading.Event(), threading.Event()

    def load(model):
        stub = server.start_stub(model, 0)
        server.stubs[model] = [stub]
        begun.set()
        goes_on.wait(10)

    guard._load = load
    server.stubs["net"][0].kill()
    assert begun.wait(10)
    assert guard.loads
    guard.close()
    guard.end_loads()
    assert server.stubs["net"][0].wait(10) == -signal.SIGKILL
    assert server.stubs["other"][0].poll() is None
    goes_on.set()


def test_guard_server_that_waits_for_a_dead_stub_is_given_up_at_once(watched):
    server, recorder, *_ = watched(net=1)
    server.failures = [LostStubError("it waits")]
    server.stubs["net"][0].kill()
    [text] = recorder.wait_for("gave up", "net")
    assert "got a server that can't load models any more: it waits" in text
    assert server.calls.count(("load", "net")) == 1


def test_guard_that_only_tells_loads_and_unloads_nothing(watched):
    server, recorder, health, _ = watched(heals=False, net=1)
    server.stubs["net"][0].kill()
    recorder.wait_for("gave up", "net")
    time.sleep(0.3)  # another look
    assert server.calls == []
    assert [one for one, *_ in recorder.events] == ["died", "gave up"]
    assert health.models()["net"].state == "given up"


def test_guard_model_that_somebody_unloads_is_left_alone(watched):
    server, recorder, health, _ = watched(net=1, other=1)
    server.states["net"] = "UNAVAILABLE"
    server.stubs["net"][0].kill()
    deadline = time.monotonic() + 10
    while "net" in health.models():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert recorder.events == []


def test_guard_reload_to_fewer_instances_is_no_death(watched):
    server, recorder, *_ = watched(net=2)
    server.counts["net"] = 1
    server.stubs["net"].pop().kill()
    time.sleep(0.3)
    assert recorder.events == []


def test_guard_stub_whose_call_does_not_return_is_killed_and_healed(watched, tmp_path, monkeypatch):
    server, recorder, *_ = watched(hang_seconds=0.3, net=1)
    stub = server.stubs["net"][0]
    beat = Beat(tmp_path, stub.pid)
    time.sleep(0.5)
    assert recorder.events == []  # idle for longer than the limit
    signals = []
    real = os.kill
    monkeypatch.setattr(os, "kill", lambda pid, number: (signals.append(number), real(pid, number)))
    with beat:
        [reason] = recorder.wait_for("died", "net")
        recorder.wait_for("healed", "net")
    assert signals[:2] == [signal.SIGUSR2, signal.SIGKILL]
    assert reason.startswith("hung for ")
    assert reason.endswith(" s: a call of its code has not returned")
    assert read_beat(tmp_path, server.stubs["net"][0].pid) is None


def test_guard_metrics_that_cannot_be_read_are_told_once(watched):
    _, recorder, *_ = watched(hang_seconds=5.0, metrics=None, net=1)
    [reason] = recorder.wait_for("blind", "")
    assert reason == "hangs of models that write no beat can't be told: no metrics"
    time.sleep(0.3)
    assert len(recorder.events) == 1


def test_guard_that_is_closed_says_nothing_about_the_end(watched):
    server, recorder, _, guard = watched(net=1)
    guard.close()
    server.stubs["net"][0].kill()
    server.stubs["net"][0].wait()
    time.sleep(0.3)
    assert (server.calls, recorder.events) == ([], [])
