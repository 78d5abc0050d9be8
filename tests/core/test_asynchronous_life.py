"""`load` and `unload` with `async def`: for clients that live on the event loop that `forward` uses."""

import asyncio
import contextlib
import threading

import pytest
import torch
from core_kit import Doubler, start, written_config
from torch import nn

from kindaware import ConfigError
from kindaware.testing import ModelHarness

CONFIG = written_config()
DECOUPLED = CONFIG | {"model_transaction_policy": {"decoupled": True}}


class Client:
    """What belongs to the loop on which it was made."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.is_open = True

    async def double(self, value):
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(0)
        return 2 * value

    async def close(self):
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(0)
        self.is_open = False


class Connected(Doubler):
    async def load(self):
        await asyncio.sleep(0)
        self.client = Client()

    async def forward(self, X):
        return await self.client.double(X)

    async def unload(self):
        await self.client.close()


def loop_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("kindaware-")]


def test_client_made_in_load_serves_forward_and_is_closed_in_unload():
    with ModelHarness(Connected, config=CONFIG) as model:
        assert model.infer(X=[[3.0]]).outputs["Y"].tolist() == [[6.0]]
        client = model.instance.client
        assert client.is_open
    assert not client.is_open
    assert loop_threads() == []


def test_client_made_in_load_serves_a_stream():
    class Streaming(Connected):
        async def stream(self, X):
            yield await self.client.double(X)

    with ModelHarness(Streaming, config=DECOUPLED) as model:
        assert [one.outputs["Y"].tolist() for one in model.stream(X=[[3.0]])] == [[[6.0]]]
        client = model.instance.client
    assert not client.is_open


def test_asynchronous_load_before_a_plain_forward_returns_the_module():
    class Model(Doubler):
        async def load(self):
            await asyncio.sleep(0)
            return nn.Identity()

    model = start(Model)
    assert isinstance(model.model, nn.Identity)
    assert torch.equal(model.forward(torch.ones(1)), torch.full((1,), 2.0))
    model.finalize()
    assert loop_threads() == []


@pytest.mark.parametrize("is_async", [False, True])
def test_model_that_fails_to_load_leaves_no_thread(is_async):
    class Model(Connected):
        async def forward(self, X):
            raise ValueError("no zeros")

    class Unloaded(Model):
        async def load(self):
            raise OSError("no such file")

    for _ in range(3):
        with pytest.raises((ConfigError, OSError), match=r"no zeros|no such file"):
            start(Unloaded if is_async else Model)
    assert loop_threads() == []


def test_stream_that_swallows_its_cancellation_takes_no_step_while_unload_runs():
    steps, unloading = [], threading.Event()

    class Stubborn(Doubler):
        warmup = "off"

        async def stream(self, X):
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.01)
                steps.append(unloading.is_set())
                yield X

        def unload(self):
            unloading.set()
            threading.Event().wait(0.1)

    with ModelHarness(Stubborn, config=DECOUPLED, raise_errors=False) as model:
        next(model.stream(X=[[3.0]]))
    assert unloading.is_set()
    assert steps
    assert not any(steps)
