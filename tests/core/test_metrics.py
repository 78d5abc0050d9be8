"""The counts of an instance, and how they come to Triton's metrics."""

import asyncio
import math
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from step_kit import Values, seen
from step_kit import open_harness as open_steps

from kindaware import KindAwareModel, RequestError
from kindaware._batch.counters import FAMILIES, Counters
from kindaware._instance import Instance
from kindaware._triton.metrics import Metrics
from kindaware.testing import ModelHarness

CONFIG = """
name: "counted" backend: "python" max_batch_size: 8
input { name: "X" data_type: TYPE_FP32 dims: [2] }
output { name: "Y" data_type: TYPE_FP32 dims: [2] }
"""
LABELS = {"device": "cpu", "instance": "counted_0", "model": "counted", "version": "1"}


class Picky(KindAwareModel):
    def load(self):
        return None

    def forward(self, X):
        if (X < 0).any():
            raise ValueError("negative")
        if (X > 9).any():
            raise RequestError("too large", code="UNSUPPORTED")
        return X * 2


class FakeClock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def increments(host, monkeypatch):
    """The numbers that were added to metrics; each costs a call to the server's process."""
    added, increment = [], host.classes.Metric.increment

    def record(self, value):
        added.append(value)
        increment(self, value)

    monkeypatch.setattr(host.classes.Metric, "increment", record)
    return added


def rows(value, count=1):
    return {"X": np.full((count, 2), value, np.float32)}


def finished(*batches, **options):
    """The harness' metrics once the model has ended, which hands the last counts over."""
    with ModelHarness(Picky, config=CONFIG, raise_errors=False, **options) as model:
        for batch in batches:
            model.infer_batch(batch)
        model.instance._kindaware_instance._metrics.flush(model.instance._kindaware_instance._counters)
        return {family.name: _values(model, family.name) for family in FAMILIES.values()}


def _values(model, family):
    return {
        tuple(sample.labels[key] for key in sorted(set(sample.labels) - set(LABELS))): sample.value
        for sample in model._server.context.metrics.samples()
        if sample.name == family
    }


def test_counts_of_answered_batches_are_rows_requests_and_batches():
    found = finished([rows(1, 2), rows(2, 3)], [rows(3)])
    assert found["kindaware_rows_total"] == {(): 6}
    assert found["kindaware_requests_total"] == {(): 3}
    assert found["kindaware_batches_total"] == {(): 2}
    assert found["kindaware_retries_total"] in ({}, {(): 0})


def test_counts_of_failed_requests_are_by_code_and_their_retries():
    found = finished([rows(1), rows(-1)], [rows(10)])
    assert found["kindaware_errors_total"] == {("INTERNAL",): 1, ("UNSUPPORTED",): 1}
    assert found["kindaware_retries_total"] == {(): 2}
    assert found["kindaware_requests_total"] == {(): 1}


def test_counts_leave_the_warm_up_out():
    found = finished(parameters={"kindaware.warmup": "8"})
    assert all(sum(values.values()) == 0 for values in found.values())


class Stepping(KindAwareModel):
    """Computes for 50 ms before each item."""

    def load(self):
        return None

    def stream(self, X):
        for _ in range(2):
            time.sleep(0.05)
            yield X


class Waiting(Stepping):
    """Waits for half a second besides."""

    async def stream(self, X):
        for _ in range(2):
            time.sleep(0.05)
            await asyncio.sleep(0.5)
            yield X


@pytest.mark.parametrize("model_class", [Stepping, Waiting])
def test_counts_of_a_stream_have_its_stages_without_what_it_waits_for(model_class):
    config = CONFIG + "model_transaction_policy { decoupled: true }"
    with ModelHarness(model_class, config=config, kind="GPU", accelerator="simulated") as model:
        assert len(list(model.stream(**rows(1, 4)))) == 2
        counts = model.instance._kindaware_instance._counters
    assert (counts.batches, counts.requests, counts.rows) == (1, 1, 4)
    assert 0.1 <= counts.seconds.pop("forward") < 0.5
    assert set(counts.seconds) == {"read", "copy_in", "copy_out", "respond"}
    assert all(0 < seconds < 0.5 for seconds in counts.seconds.values())
    assert counts.bytes_copied == {"in": 32, "out": 64}


def test_counts_of_bytes_on_a_gpu_are_those_of_the_batch():
    with ModelHarness(Picky, config=CONFIG, kind="GPU", accelerator="simulated") as model:
        model.infer(**rows(1, 4))
        model.instance._kindaware_instance._metrics.flush(model.instance._kindaware_instance._counters)
        assert _values(model, "kindaware_copied_bytes_total") == {("in",): 32, ("out",): 32}


def test_counts_of_a_batch_too_large_for_memory_are_told_apart():
    class Hungry(Picky):
        def forward(self, X):
            if len(X) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return X

    with ModelHarness(Hungry, config=CONFIG) as model:
        model.infer_batch([rows(1), rows(2)])
        counts = model.instance._kindaware_instance._counters
        assert (counts.out_of_memory, counts.retries, counts.requests) == (1, 2, 2)


def test_metrics_within_a_second_are_handed_over_once(host, increments):
    clock, counts = FakeClock(), Counters()
    metrics = Metrics(host.pb_utils, LABELS, clock)
    for now in (0.5, 0.9, 1.0, 1.5, 1.9):
        clock.now = now
        counts.add_batch(1, 2)
        if now >= metrics.due_at:
            metrics.flush(counts)
    assert [(one.name, one.labels, one.value) for one in host.metrics.samples()] == [
        ("kindaware_batches_total", LABELS, 3),
        ("kindaware_requests_total", LABELS, 3),
        ("kindaware_rows_total", LABELS, 6),
    ]
    assert increments == [3, 3, 6]


def test_metrics_hand_over_what_was_added_and_nothing_else(host, increments):
    counts = Counters()
    metrics = Metrics(host.pb_utils, LABELS, FakeClock())
    counts.add_errors(["INTERNAL", "INTERNAL", "UNAVAILABLE"])
    metrics.flush(counts)
    metrics.flush(counts)
    counts.add_errors(["INTERNAL"])
    metrics.flush(counts)
    assert increments == [2, 1, 1]
    assert {one.labels["code"]: one.value for one in host.metrics.samples()} == {
        "INTERNAL": 3,
        "UNAVAILABLE": 1,
    }


def test_metrics_at_the_end_hand_over_the_last_second():
    with ModelHarness(Picky, config=CONFIG) as model:
        model.infer(**rows(1))
        instance, registry = model.instance, model._server.context.metrics
        assert not [one for one in registry.samples() if one.name == "kindaware_rows_total"]
        instance.finalize()
        assert [one.value for one in registry.samples() if one.name == "kindaware_rows_total"] == [1]


def test_metrics_are_not_freed_when_their_process_ends(host):
    counts = Counters()
    metrics = Metrics(host.pb_utils, LABELS, FakeClock())
    counts.add_errors(["INTERNAL"])
    metrics.flush(counts)
    kept = [*metrics._metrics.values(), *metrics._families.values()]
    assert len(kept) == 2
    before = [sys.getrefcount(one) for one in kept]
    metrics.close()
    assert [sys.getrefcount(one) for one in kept] == [count + 1 for count in before]


def test_metrics_that_are_off_make_none():
    with ModelHarness(Picky, config=CONFIG, parameters={"kindaware.metrics": "false"}) as model:
        model.infer(**rows(1))
        assert model.instance._kindaware_instance._metrics is None
        assert model.metrics_text() == ""


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_metrics_names_follow_the_conventions_of_prometheus(family):
    assert family.name.startswith("kindaware_")
    assert family.name.endswith("_total") == (family.kind == "COUNTER")


def test_execute_hands_metrics_over_when_they_are_due_and_not_before(monkeypatch):
    with ModelHarness(Picky, config=CONFIG) as model:
        metrics, flushed = model.instance._kindaware_instance._metrics, []
        metrics.flush = flushed.append
        metrics.due_at = math.inf
        model.infer(**rows(1))
        assert flushed == []
        monkeypatch.setattr("kindaware._instance.time", SimpleNamespace(monotonic=lambda: 7.0))
        metrics.due_at = 7.0
        model.infer(**rows(1))
        assert flushed == [model.instance._kindaware_instance._counters]


def test_counts_of_steps_are_handed_over_by_the_thread_that_makes_them(monkeypatch):
    """It goes on while no request comes, and counters are not for two threads."""
    handing = []
    monkeypatch.setattr(
        Instance, "_flush_metrics_if_due", lambda self: handing.append(threading.current_thread().name)
    )
    with open_steps(Values, parameters={"kindaware.warmup": "off"}) as model:
        assert seen(model.stream(N=[[2]])) == [0, 1]
    assert set(handing) == {"kindaware-step"}
