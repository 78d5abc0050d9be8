"""The end of an instance, and whether it is ready."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from core_kit import Doubler, start
from host_kit import PB_UTILS

from kindaware import Done
from kindaware.testing import ModelHarness, ModelLoadError

CONFIG = {
    "name": "m",
    "backend": "python",
    "max_batch_size": 8,
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [4]}],
    "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [4]}],
}


class Closing(Doubler):
    """Takes down what happens to it."""

    def load(self):
        self.events = []

    def unload(self):
        self.events.append("unload")


def test_unload_that_raises_is_logged_and_holds_nobody_up():
    class Raising(Closing):
        def unload(self):
            super().unload()
            raise OSError("can't be closed")

    with ModelHarness(Raising, config=CONFIG, instances=2) as harness:
        models = harness.instances
    assert [model.events for model in models] == [["unload"], ["unload"]]
    assert "can't be closed" in harness.log_text()


def test_unload_is_called_when_the_last_counts_can_not_be_handed_over(monkeypatch):
    with ModelHarness(Closing, config=CONFIG) as harness:
        model = harness.instance
        harness.infer(X=np.ones((1, 4), np.float32))

        def refuse(counts):
            raise RuntimeError("no metrics")

        monkeypatch.setattr(model._kindaware_instance._metrics, "flush", refuse)
    assert model.events == ["unload"]
    assert "no metrics" in harness.log_text()


def test_model_is_ready_until_its_device_has_failed():
    with ModelHarness(Doubler, config=CONFIG, server_version="current") as harness:
        assert harness.is_ready()
        harness.instance._kindaware_instance._device.health.fault = "CUDA error"
        assert not harness.is_ready()


def test_model_may_say_more_about_being_ready():
    class Careful(Doubler):
        is_open = True

        def is_ready(self):
            return super().is_ready() and self.is_open

    with ModelHarness(Careful, config=CONFIG, server_version="current") as harness:
        assert harness.is_ready()
        harness.instance.is_open = False
        assert not harness.is_ready()
        harness.instance.is_open = True
        harness.instance._kindaware_instance._device.health.fault = "CUDA error"
        assert not harness.is_ready()


def test_model_can_be_asked_while_forward_runs():
    class Slow(Doubler):
        def load(self):
            self.is_asked = threading.Event()
            self.is_in_forward = threading.Event()

        def forward(self, X):
            self.is_in_forward.set()
            assert self.is_asked.wait(10)
            return X

    with ModelHarness(Slow, config=CONFIG, parameters={"kindaware.warmup": "off"}) as harness:
        model = harness.instance
        client = threading.Thread(target=harness.infer, kwargs={"X": np.ones((1, 4), np.float32)})
        client.start()
        assert model.is_in_forward.wait(10)
        assert model.is_ready()
        model.is_asked.set()
        client.join()


class Polling(Doubler):
    """Starts a thread that is no daemon, and one that is."""

    def load(self):
        self.ended = threading.Event()
        threading.Thread(target=self.ended.wait, name="the poller").start()
        threading.Thread(target=self.ended.wait, name="the daemon", daemon=True).start()


def test_failed_load_is_logged_with_the_thread_that_holds_the_process():
    class Failing(Polling):
        def load(self):
            super().load()
            type(self).started = self.ended
            raise ValueError("no weights")

    harness = ModelHarness(Failing, config=CONFIG)
    try:
        with pytest.raises(ModelLoadError, match="no weights"):
            harness.__enter__()
        log = harness.log_text()
    finally:
        Failing.started.set()

    assert "model 'm' threads: expected none that outlives a failed load, got 'the poller'; end it" in log
    report = log[log.index("model 'm' threads: ") :]
    assert "Traceback (most recent call last)" in report
    assert "ValueError: no weights" in report
    assert "the daemon" not in log


def failed_load():
    class Failing(Doubler):
        def load(self):
            raise ValueError("no weights")

    harness = ModelHarness(Failing, config=CONFIG)
    with pytest.raises(ModelLoadError, match="no weights"):
        harness.__enter__()
    return harness


def test_failed_load_without_a_thread_is_left_to_the_server_to_report():
    harness = failed_load()
    assert "threads: expected" not in harness.log_text()


def test_failed_load_is_in_the_log_of_the_instance_before_it_leaves():
    harness = failed_load()
    (line,) = [one for one in harness.logs if one.text.startswith("model 'm': load failed: ")]
    assert line.level == "ERROR"
    assert "ValueError: no weights" in line.text


def test_load_that_whoever_runs_the_test_has_stopped_is_no_failed_load(caplog):
    class Stopped(Doubler):
        def load(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(Stopped)
    assert "load failed" not in caplog.text


def test_load_that_ends_the_process_is_in_the_log(caplog):
    class Exiting(Doubler):
        def load(self):
            raise SystemExit(3)

    with pytest.raises(SystemExit):
        start(Exiting)
    assert "load failed: " in caplog.text


def test_metrics_outlive_their_instance_so_that_no_destructor_runs_while_the_process_ends():
    with ModelHarness(Doubler, config=CONFIG) as harness:
        harness.infer(X=np.ones((1, 4), np.float32))
        instance = harness.instance._kindaware_instance
        instance._flush_metrics(instance._metrics)
        kept = list(instance._metrics._families.values())
        before = [sys.getrefcount(one) for one in kept]
        instance.end()
        assert kept
        assert [sys.getrefcount(one) for one in kept] == [count + 1 for count in before]


def test_thread_that_outlives_unload_is_named(monkeypatch):
    monkeypatch.setattr("kindaware._instance.is_stand_in", lambda pb_utils: False)

    with ModelHarness(Polling, config=CONFIG) as harness:
        ended = harness.instance.ended
    ended.set()

    log = harness.log_text()
    assert "model 'm' threads: expected none after unload(), got 'the poller'" in log
    assert "Traceback" not in log
    assert "NoneType" not in log


def test_threads_of_a_test_are_not_reported_as_if_a_process_had_to_end():
    with ModelHarness(Polling, config=CONFIG) as harness:
        ended = harness.instance.ended
    ended.set()

    assert "threads: expected none" not in harness.log_text()


def test_pool_that_waits_for_work_is_not_named_and_one_that_works_is(monkeypatch):
    monkeypatch.setattr("kindaware._instance.is_stand_in", lambda pb_utils: False)

    class Pooled(Doubler):
        def load(self):
            self.ended = threading.Event()
            self.idle, self.busy = (ThreadPoolExecutor(1, name) for name in ("idle", "busy"))
            self.idle.submit(int).result()
            self.busy.submit(self.ended.wait)

    with ModelHarness(Pooled, config=CONFIG) as harness:
        model = harness.instance
    model.ended.set()
    for pool in (model.idle, model.busy):
        pool.shutdown()

    log = harness.log_text()
    assert "model 'm' threads: expected none after unload(), got 'busy_0' at" in log
    assert "'idle_0' at" not in log


class StepWithoutZeros(Doubler):
    forward = None

    def begin(self, X):
        raise ValueError("no zeros")

    def step(self, states):
        """Nothing begins."""


class StreamWithoutZeros(Doubler):
    forward = None

    def stream(self, X):
        raise ValueError("no zeros")
        yield


class ForwardWithoutZeros(Doubler):
    def forward(self, X):
        raise ValueError("no zeros")


DECOUPLED = {"model_transaction_policy": {"decoupled": True}}
GPU = {"kind": "GPU", "accelerator": "simulated"}


@pytest.mark.parametrize(
    ("model_class", "changes", "parameters", "options"),
    [
        (StepWithoutZeros, DECOUPLED, {}, {}),
        (StreamWithoutZeros, DECOUPLED, {"kindaware.items_per_response": "4"}, {}),
        (ForwardWithoutZeros, {}, {"kindaware.overlap_calls": "true"}, GPU),
    ],
)
def test_warm_up_that_fails_leaves_no_thread_of_the_librarys(model_class, changes, parameters, options):
    harness = ModelHarness(model_class, config={**CONFIG, **changes}, parameters=parameters, **options)
    before = set(threading.enumerate())
    with pytest.raises(ModelLoadError, match="no zeros"):
        harness.__enter__()
    started = set(threading.enumerate()) - before
    assert [one.name for one in started if one.name.startswith("kindaware-")] == []


class Step(Doubler):
    forward = None

    def begin(self, X):
        return X

    def step(self, states):
        return [Done({"Y": X}) for X in states]


@pytest.mark.parametrize(
    ("model_class", "changes", "parameters", "options", "threads"),
    [
        (Step, DECOUPLED, {}, {}, {"kindaware-send", "kindaware-step"}),
        (Doubler, {}, {"kindaware.overlap_calls": "true"}, GPU, {"kindaware-answer"}),
    ],
)
def test_instance_that_ends_has_ended_its_threads(model_class, changes, parameters, options, threads):
    harness = ModelHarness(model_class, config={**CONFIG, **changes}, parameters=parameters, **options)
    with harness:
        before = set(threading.enumerate())
        harness.instance._kindaware_instance.end()
        ended = before - set(threading.enumerate())
    assert {one.name for one in ended} == threads


def test_test_that_installs_its_stand_in_after_the_load_may_call_other_models(host, monkeypatch):
    model = start(Doubler)
    calls = model._kindaware_instance.calls
    assert calls.adapter is None
    monkeypatch.setitem(sys.modules, PB_UTILS, host.pb_utils)
    model.execute([])
    assert calls.adapter is not None


@pytest.mark.parametrize("is_on", [True, False])
def test_instance_asks_for_a_reload_after_a_fault_only_where_it_may(is_on):
    parameters = {"kindaware.reload_on_fault": str(is_on).lower()}
    with ModelHarness(Doubler, config=CONFIG, parameters=parameters) as harness:
        instance = harness.instance._kindaware_instance
        assert (instance._reload is not None) == is_on


class Source(Doubler):
    """Makes something of nothing."""

    def forward(self):
        return torch.full((4,), 3.0)


class Sink(Doubler):
    """Takes what it gets, and answers nothing."""

    def forward(self, X):
        return {}


@pytest.mark.parametrize(("model_class", "without"), [(Source, "input"), (Sink, "output")])
def test_model_without_inputs_or_without_outputs_is_served(model_class, without):
    with ModelHarness(model_class, config={**CONFIG, "max_batch_size": 0, without: []}) as harness:
        inputs = {} if without == "input" else {"X": np.ones(4, np.float32)}
        outputs = harness.infer(**inputs).outputs
    assert {name: one.tolist() for name, one in outputs.items()} == ({"Y": [3.0] * 4} if inputs == {} else {})
