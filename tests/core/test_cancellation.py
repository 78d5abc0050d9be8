"""Requests that were cancelled before their batch: answered at once, where setting or rule say so."""

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
