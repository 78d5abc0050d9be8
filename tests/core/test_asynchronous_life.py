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


@pytest.fixture(autouse=True)
def _threads_of_others():
    """Note the threads that earlier tests have left, such as those of a hook that never returns."""
    OF_OTHERS.clear()
    OF_OTHERS.update(threading.enumerate())


OF_OTHERS = set()


def loop_threads():
    """Threads of event loops, and not those that read up what another test has left of a stream."""
    names = [one.name for one in threading.enumerate() if one not in OF_OTHERS]
    return [name for name in names if name.startswith("kindaware-") and name != "kindaware-drain"]


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


def test_asynchronous_unload_that_raises_leaves_no_thread():
    class Model(Connected):
        async def unload(self):
            raise OSError("can't be closed")

    model = start(Model)
    with pytest.raises(OSError, match="can't be closed"):
        model._kindaware_instance.end()
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


@pytest.fixture
def closes_soon(monkeypatch):
    monkeypatch.setattr("kindaware._hooks.event_loop._CLOSING_SECONDS", 1.0)


@pytest.mark.parametrize("accelerator", [None, "simulated"])
def test_stream_that_swallows_its_cancellation_within_a_step_takes_no_step_while_unload_runs(
    closes_soon, accelerator
):
    steps, unloading, inside = [], threading.Event(), threading.Event()

    class Stubborn(Doubler):
        warmup = "off"

        async def stream(self, X):
            yield X
            try:
                while True:
                    with contextlib.suppress(asyncio.CancelledError):
                        inside.set()
                        await asyncio.sleep(0.005)
                    steps.append(unloading.is_set())
            finally:
                steps.append("closed")

        def unload(self):
            unloading.set()
            threading.Event().wait(0.1)

    options = {} if accelerator is None else {"kind": "GPU", "accelerator": accelerator}
    with ModelHarness(Stubborn, config=DECOUPLED, raise_errors=False, **options) as model:
        stream = model.stream(X=[[3.0]])
        next(stream)
        assert inside.wait(5)
        counters = model.instance._kindaware_instance._counters
    assert unloading.is_set()
    assert len(steps) > 2
    assert steps[-1] == "closed"
    assert True not in steps
    assert dict(counters.errors) == {"UNAVAILABLE": 1}


def test_stream_whose_cleanup_takes_a_while_is_cancelled_once():
    seen = []

    class Tidy(Doubler):
        warmup = "off"

        async def stream(self, X):
            try:
                yield X
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.2)
                seen.append("tidy")

        def unload(self):
            seen.append("unload")

    with ModelHarness(Tidy, config=DECOUPLED, raise_errors=False) as model:
        next(model.stream(X=[[3.0]]))
    assert seen == ["tidy", "unload"]


def test_cleanup_that_began_when_the_client_left_is_not_cancelled_by_unload():
    seen = []
    began = threading.Event()

    class Tidy(Doubler):
        warmup = "off"

        async def stream(self, X):
            try:
                while True:
                    yield X
                    await asyncio.sleep(0.01)
            finally:
                began.set()
                await asyncio.sleep(0.2)
                seen.append("tidy")

        def unload(self):
            seen.append("unload")

    with ModelHarness(Tidy, config=DECOUPLED, raise_errors=False) as model:
        stream = model.stream(X=[[3.0]])
        next(stream)
        stream.cancel()
        assert began.wait(5)
    assert seen == ["tidy", "unload"]


@pytest.mark.parametrize("hook", ["forward", "stream"])
def test_worker_started_in_load_is_there_until_unload_has_told_it_to_end(hook):
    done = []

    class Model(Doubler):
        async def load(self):
            self.queue = asyncio.Queue()
            self.worker = asyncio.get_running_loop().create_task(self.work())

        async def work(self):
            while (one := await self.queue.get()) is not None:
                number, future = one
                future.set_result(2 * number)
            done.append("worker")

        async def ask(self, number):
            future = asyncio.get_running_loop().create_future()
            await self.queue.put((number, future))
            return await future

        async def unload(self):
            await self.queue.put(None)
            await self.worker
            done.append("unload")

    async def forward(self, X):
        return await self.ask(X)

    async def stream(self, X):
        yield await self.ask(X)

    setattr(Model, hook, forward if hook == "forward" else stream)
    config = CONFIG if hook == "forward" else DECOUPLED
    with ModelHarness(Model, config=config) as model:
        answers = [model.infer(X=[[3.0]])] if hook == "forward" else list(model.stream(X=[[3.0]]))
        assert answers[0].outputs["Y"].tolist() == [[6.0]]
    assert done == ["worker", "unload"]
    assert loop_threads() == []


def test_task_that_unload_leaves_is_cancelled_when_the_loop_is_closed():
    ended = []

    class Model(Doubler):
        async def load(self):
            self.task = asyncio.get_running_loop().create_task(self.wait())

        async def wait(self):
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("task")

        async def unload(self):
            await asyncio.sleep(0)
            ended.append("unload")

    with ModelHarness(Model, config=CONFIG):
        pass
    assert ended == ["unload", "task"]
