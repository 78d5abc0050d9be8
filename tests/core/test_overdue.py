"""A load or a warm-up that does not return says where it waits."""

import re
import threading
from pathlib import Path

import pytest
from core_kit import Doubler, written_config

from kindaware.testing import ModelHarness

CONFIG = written_config()
DECOUPLED = CONFIG | {"model_transaction_policy": {"decoupled": True}}


def wait_here():
    threading.Event().wait(0.3)


class Loads(Doubler):
    def load(self):
        wait_here()


class Forwards(Doubler):
    def forward(self, X):
        wait_here()
        return 2 * X


class Streams(Doubler):
    def stream(self, X):
        wait_here()
        yield 2 * X


LINES = [
    (Loads, "load"),
    (Forwards, r"the warm-up with 1 row\(s\)"),
    (Streams, r"the warm-up with 1 row\(s\)"),
]


@pytest.mark.parametrize(("model_class", "what"), LINES)
def test_hook_that_takes_too_long_is_told_with_the_line_where_it_waits(model_class, what, monkeypatch):
    monkeypatch.setattr("kindaware._hooks.overdue.OVERDUE_SECONDS", 0.1)
    with ModelHarness(model_class, config=DECOUPLED if model_class is Streams else CONFIG) as model:
        log = model.log_text()
    place = rf"{re.escape(str(Path(__file__)))}:\d+, in wait_here"
    assert len(re.findall(rf"model 'm': {what} has not returned for 0.1 s; it waits at {place}", log)) == 1
    assert log.count("has not returned") == 1


def test_hook_in_time_is_not_told_and_leaves_no_thread(monkeypatch):
    monkeypatch.setattr("kindaware._hooks.overdue.OVERDUE_SECONDS", 0.25)
    with ModelHarness(Doubler, config=CONFIG) as model:
        assert [one.name for one in threading.enumerate() if one.name == "kindaware-overdue"] == []
        threading.Event().wait(0.3)
        assert "has not returned" not in model.log_text()


def test_asynchronous_load_that_takes_too_long_is_told(monkeypatch):
    monkeypatch.setattr("kindaware._hooks.overdue.OVERDUE_SECONDS", 0.1)

    class Model(Doubler):
        async def load(self):
            wait_here()

    with ModelHarness(Model, config=CONFIG) as model:
        assert "model 'm': load has not returned for 0.1 s" in model.log_text()
