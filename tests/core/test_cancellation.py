"""Requests that were cancelled before their batch: answered at once, where setting or rule say so."""

import pytest
from core_kit import Doubler

from kindaware._cancellation import ASK_SECONDS, WORTH, asks_for_cancelled
from kindaware._counts import Counts
from kindaware.testing import ModelHarness

CONFIG = {
    "name": "m",
    "backend": "python",
    "max_batch_size": 8,
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [1]}],
    "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [1]}],
}


class Watched(Doubler):
    """Keeps the rows of its batches."""

    warmup = "off"

    def load(self):
        self.batches = []

    def forward(self, X):
        self.batches.append(X[:, 0].tolist())
        return 2 * X


def counts_of(seconds, requests):
    counts = Counts(requests=requests)
    counts.seconds["forward"] = seconds
    return counts


@pytest.mark.parametrize(
    ("setting", "counts", "asks"),
    [
        ("on", Counts(), True),
        ("off", counts_of(1.0, 1), False),
        ("auto", Counts(), False),
        ("auto", counts_of(0.99 * WORTH * ASK_SECONDS * 8, 8), False),
        ("auto", counts_of(1.01 * WORTH * ASK_SECONDS * 8, 8), True),
    ],
)
def test_rule_asks_where_a_request_takes_a_hundred_times_as_long(setting, counts, asks):
    assert asks_for_cancelled(setting, counts) is asks


def test_rule_counts_the_wait_for_the_device_but_not_the_requests_reading():
    counts = Counts(requests=1)
    counts.seconds["gather"] = counts.seconds["scatter"] = 1.0
    assert not asks_for_cancelled("auto", counts)
    counts.seconds["copy_out"] = 1.0
    assert asks_for_cancelled("auto", counts)


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
        assert model.instance._device_pass.counts.errors == {"CANCELLED": 1}
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
        model.instance._device_pass.counts.seconds["forward"] += 1.0
        sent(model)
        assert model.instance.batches == [[1.0, 2.0], [2.0]]
