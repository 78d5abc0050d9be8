"""The server's word that open streams are to end: they get an error that says why, and nothing is left."""

import asyncio
import threading
import time

import pytest
import torch
from step_kit import InPlace, number, open_harness, seen, until

from kindaware import KindAwareModel
from kindaware._triton.end_of_server import VARIABLE, EndOfServer


class Steps(InPlace):
    def step(self, states):
        time.sleep(0.002)
        return super().step(states)


class Asynchronous(KindAwareModel):
    def load(self):
        return None

    async def stream(self, N):
        for value in range(int(N)):
            await asyncio.sleep(0.002)
            yield number(value)


class Plain(KindAwareModel):
    def load(self):
        return None

    def stream(self, N):
        for value in range(int(N)):
            time.sleep(0.002)
            yield number(value)


class Waiting(Asynchronous):
    async def stream(self, N):
        for value in range(3):
            yield number(value)
        await asyncio.sleep(60)


@pytest.fixture
def word(tmp_path, monkeypatch):
    """The file whose appearance is the word."""
    path = tmp_path / "end-streams"
    monkeypatch.setenv(VARIABLE, str(path))
    return path


@pytest.mark.parametrize("model_class", [Steps, Asynchronous, Waiting, Plain])
def test_streams_that_are_open_at_the_word_end_with_unavailable(model_class, word):
    with open_harness(model_class, parameters={"kindaware.warmup": "off"}) as model:
        threading.Timer(0.2, word.touch).start()
        results = list(model.stream(N=[[1_000_000]]))
        failure = results[-1].error

        assert seen(results[:3]) == [0, 1, 2]
        assert seen(results[-1:]) == ["UNAVAILABLE"]
        assert "expected the model to stay loaded until the stream has ended" in failure.message()


def test_streams_go_on_without_the_word(word):
    with open_harness(Asynchronous, parameters={"kindaware.warmup": "off"}) as model:
        assert seen(model.stream(N=[[300]])) == list(range(300))


def test_end_of_server_that_is_closed_waits_for_no_word(word):
    calls = []
    waiting = EndOfServer.of_environment({VARIABLE: str(word)}, lambda: calls.append("end"))
    names = [one.name for one in threading.enumerate()]
    waiting.close()
    until(lambda: "kindaware-end-of-server" not in [one.name for one in threading.enumerate()])
    word.touch()

    assert "kindaware-end-of-server" in names
    assert calls == []


def test_end_of_server_under_a_server_of_somebody_else_is_none():
    assert EndOfServer.of_environment({}, lambda: None) is None


def test_model_without_streams_waits_for_no_word(word):
    class Doubles(KindAwareModel):
        def load(self):
            return None

        def forward(self, X):
            return 2 * X

    from core_kit import start

    model = start(Doubles)

    assert model._kindaware_instance._end_of_server is None
    assert torch.is_tensor(model.forward(torch.ones(1)))


def test_instance_that_has_ended_waits_for_no_word(word):
    with open_harness(Plain, parameters={"kindaware.warmup": "off"}):
        assert is_waited_for()
    until(lambda: not is_waited_for())


def is_waited_for():
    return any(one.name == "kindaware-end-of-server" for one in threading.enumerate())
