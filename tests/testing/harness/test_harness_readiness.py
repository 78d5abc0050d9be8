"""Readiness queries, of clients and of models; what a server says from 26.03 on is read from its sources."""

import time

import pytest
import torch
from harness_kit import PLAIN

from kindaware import KindAwareModel
from kindaware.testing import ModelHarness
from kindaware.testing.harness.process import readiness as _readiness


class Asked:
    """Answers as `answer` says."""

    answer = True

    def is_ready(self):
        return self.answer


class Raises:
    def is_ready(self):
        raise OSError("no connection")


class Awaits:
    async def is_ready(self):
        return False


class Sleeps:
    def is_ready(self):
        time.sleep(0.3)
        return True


class Silent:
    pass


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Raises, "OSError: no connection\n\nAt:\n  "),
        (Awaits, "Model 'model_0' is not ready (user-defined check failed)."),
        (Sleeps, "is_ready() of 'model_0' took longer than 0.1 s"),
    ],
)
def test_is_ready_of_a_model_that_is_not_gives_false_and_logs_why(monkeypatch, model, reason):
    monkeypatch.setattr(_readiness, "_LIMIT_SECONDS", 0.1)
    with ModelHarness(model, config=PLAIN, server_version="26.03") as harness:
        assert harness.is_ready() is False
    assert [reason in line.text for line in harness.logs if line.level == "WARNING"] == [True]
    with ModelHarness(model, config=PLAIN, server_version="26.02") as harness:
        assert harness.is_ready() is True


@pytest.mark.parametrize("answer", [1, None, "yes"])
def test_is_ready_that_gives_no_boolean_is_not_ready(answer):
    with ModelHarness(Asked, config=PLAIN, server_version="current") as harness:
        assert harness.is_ready()
        harness.instance.answer = answer
        assert not harness.is_ready()
    assert "is_ready() must return a boolean value" in harness.log_text()


def test_is_ready_of_several_instances_is_that_of_the_worst():
    with ModelHarness(Asked, config=PLAIN, instances=2, server_version="current") as harness:
        assert harness.is_ready()
        harness.instances[1].answer = False
        assert not harness.is_ready()


def test_is_ready_that_a_model_gets_after_initialize_is_not_asked():
    with ModelHarness(Silent, config=PLAIN, server_version="current") as harness:
        harness.instance.is_ready = lambda: False
        assert harness.is_ready()


def test_is_model_ready_asks_the_model():
    with ModelHarness(Silent, config=PLAIN, server_version="current") as harness:
        harness.add_model(Asked, PLAIN, name="asked")
        assert harness.pb_utils.is_model_ready("asked")
        harness.model("asked").instance.answer = False
        assert not harness.pb_utils.is_model_ready("asked")


def test_is_ready_of_a_kindaware_model_is_asked():
    class Own(KindAwareModel):
        def load(self):
            self.is_warm = True
            return torch.nn.Identity()

        def forward(self, X):
            return X

        def is_ready(self):
            return super().is_ready() and self.is_warm

    with ModelHarness(Own, config=PLAIN, server_version="current") as harness:
        assert harness.is_ready()
        harness.instance.is_warm = False
        assert not harness.is_ready()
