"""Requests that were cancelled before their batch: answered at once, where setting or rule say so."""

import sys
import time

import pytest
from core_kit import Doubler, written_config

from kindaware._execute.executor import ASK_SECONDS, WORTH, asks_from
from kindaware.testing import ModelHarness

CONFIG = written_config()


class Watched(Doubler):
    """Keeps the rows of its batches."""

    warmup = "off"

    def load(self):
        self.batches = []

    def forward(self, X):
        self.batches.append(X[:, 0].tolist())
        return 2 * X


@pytest.mark.parametrize(
    ("setting", "seconds", "asks"),
    [
        ("on", 0.0, True),
        ("off", 1e9, False),
        ("auto", 0.0, False),
        ("auto", 0.99 * WORTH * ASK_SECONDS, False),
        ("auto", 1.01 * WORTH * ASK_SECONDS, True),
    ],
)
def test_rule_asks_where_a_request_takes_a_hundred_times_as_long(setting, seconds, asks):
    assert (seconds >= asks_from(setting)) is asks


@pytest.mark.parametrize("parameters", [{}, {"kindaware.precision": "bf16-true"}])
def test_rule_counts_what_a_request_of_the_last_batch_took_on_either_way(parameters):
    class Slow(Watched):
        def forward(self, X):
            if len(X) == 2:
                time.sleep(0.4)
            return 2 * X

    with ModelHarness(Slow, config=CONFIG, parameters=parameters) as model:
        counts = model.instance._kindaware_instance._counters
        assert counts.seconds_per_request == 0
        model.infer_batch([{"X": [[1.0]]}] * 2)
        assert 0.2 <= counts.seconds_per_request < 0.4
        model.infer_batch([{"X": [[1.0]]}])
        assert counts.seconds_per_request < 0.1


def sent(model):
    """Two requests in one call, the first of them cancelled."""
    return model.infer_batch(
        [{"inputs": {"X": [[1.0]]}, "cancelled": True, "request_id": "gone"}, {"inputs": {"X": [[2.0]]}}]
    )


def test_cancelled_request_is_answered_so_and_not_computed():
    with ModelHarness(
        type("On", (Watched,), {"cancellation": "on"}), config=CONFIG, raise_errors=False
    ) as model:
        gone, answered = sent(model)
        assert model.instance.batches == [[2.0]]
        assert model.instance._kindaware_instance._counters.errors == {"CANCELLED": 1}
    assert gone.error.code().name == "CANCELLED"
    assert gone.error.message() == (
        "model 'm' request 'gone': expected a client that waits for the answer, got a request that was "
        "cancelled; send it again if it is wanted after all"
    )
    assert answered.outputs["Y"].tolist() == [[4.0]]


def test_cancelled_requests_of_a_fast_model_are_not_asked_for():
    with ModelHarness(Watched, config=CONFIG, raise_errors=False) as model:
        sent(model)
        assert model.instance.batches == [[1.0, 2.0]]


def test_model_that_turns_out_slow_begins_to_ask():
    with ModelHarness(Watched, config=CONFIG, raise_errors=False) as model:
        sent(model)
        model.instance._kindaware_instance._counters.seconds_per_request = 1.0
        sent(model)
        assert model.instance.batches == [[1.0, 2.0], [2.0]]


@pytest.mark.parametrize("width", [1, 2])
def test_question_that_fails_counts_as_not_cancelled_and_leaves_the_other_requests_alone(width, monkeypatch):
    def fails_once(self):
        asked.append(self)
        if len(asked) == 1:
            raise RuntimeError("broken pipe")
        return False

    asked = []
    model_class = type("On", (Watched,), {"cancellation": "on"})
    with ModelHarness(model_class, config=written_config(width), raise_errors=False) as model:
        pb_utils = sys.modules["triton_python_backend_utils"]
        monkeypatch.setattr(pb_utils.InferenceRequest, "is_cancelled", fails_once)
        results = model.infer_batch([{"X": [[value] * width]} for value in (1.0, 2.0)])
    assert [one.error for one in results] == [None, None]
    assert [one.outputs["Y"].tolist() for one in results] == [[[2.0] * width], [[4.0] * width]]
    assert len(asked) == 2
