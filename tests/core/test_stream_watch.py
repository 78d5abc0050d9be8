"""`async def stream` that waits within a step: it is ended when its client has cancelled, and only then."""

import asyncio
import time

import pytest
from stream_kit import Model, open_harness, seen

from kindaware._execute.client_watch import ClientGoneError, Watch

WAITS_FOR_EVER = 3600.0
CODES = ["CANCELLED", "END"]


def gone_after(num_items):
    return lambda num_sent: num_sent >= num_items


@pytest.fixture(autouse=True)
def watch_often(monkeypatch):
    monkeypatch.setattr("kindaware._execute.client_watch.WATCH_SECONDS", 0.02)


class Waiting(Model):
    """Gives one item, then waits as its `wait` says; keeps what happened."""

    max_streams = 1

    def load(self):
        self.happened = []

    async def stream(self, N):
        try:
            yield N
            async for item in self.wait(N):
                yield item
        finally:
            await asyncio.sleep(0.01)
            self.happened.append("cleaned")

    async def wait(self, N):
        await asyncio.sleep(WAITS_FOR_EVER * int(N[0, 0]))
        self.happened.append("waited")
        yield N


def test_stream_that_waits_for_ever_is_ended_when_its_client_has_gone():
    with open_harness(Waiting) as model:
        got = seen(model.stream(N=[[1]], cancelled=gone_after(1), empty_final=True))
        assert got == [1, *CODES]
        assert model.instance.happened == ["cleaned"]
        assert seen(model.stream(N=[[0]])) == [0, 0]
        assert "E " not in model.log_text()


def test_stream_that_waits_before_its_first_item_is_ended_too():
    class Silent(Waiting):
        async def stream(self, N):
            await asyncio.sleep(WAITS_FOR_EVER)
            yield N

    asked = []
    with open_harness(Silent) as model:
        stream = model.stream(N=[[1]], cancelled=lambda _: len(asked.append(1) or asked) > 2)
        assert seen(stream) == ["CANCELLED"]


def test_stream_whose_client_waits_is_left_alone_however_long_a_step_takes():
    asked = []

    class Slow(Waiting):
        async def wait(self, N):
            await asyncio.sleep(0.2)
            yield N + 1

    with open_harness(Slow) as model:
        stream = model.stream(N=[[1]], cancelled=lambda _: asked.append(time.monotonic()), empty_final=True)
        assert seen(stream) == [1, 2, "END"]
        assert len(asked) > 4


def test_stream_whose_steps_are_shorter_than_the_watch_asks_no_more_than_before(monkeypatch):
    monkeypatch.setattr("kindaware._execute.client_watch.WATCH_SECONDS", 0.3)
    asked = []

    class Steady(Model):
        async def stream(self, N):
            for _ in range(5):
                await asyncio.sleep(0.1)
                yield N

    with open_harness(Steady) as model:
        stream = model.stream(N=[[1]], cancelled=lambda _: asked.append(1))
        assert seen(stream) == [1] * 5
        assert len(asked) == 1 + 5


def test_stream_is_not_ended_while_it_waits_where_cancellation_is_off():
    class Slow(Waiting):
        async def wait(self, N):
            await asyncio.sleep(0.2)
            yield N + 1

    with open_harness(Slow, parameters={"kindaware.cancellation": "off"}) as model:
        assert seen(model.stream(N=[[1]], cancelled=True, empty_final=True)) == [1, 2, "END"]


async def yields_another(self, N):
    try:
        await asyncio.sleep(WAITS_FOR_EVER)
    except asyncio.CancelledError:
        yield N


async def ends(self, N):
    try:
        await asyncio.sleep(WAITS_FOR_EVER)
    except asyncio.CancelledError:
        return
    yield N


@pytest.mark.parametrize("wait", [yields_another, ends])
def test_stream_that_keeps_its_cancellation_to_itself_ends_all_the_same(wait):
    with open_harness(type("Stubborn", (Waiting,), {"wait": wait})) as model:
        got = seen(model.stream(N=[[1]], cancelled=gone_after(1), empty_final=True))
        assert got == [1, *CODES]
        assert model.instance.happened[-1] == "cleaned"
        assert seen(model.stream(N=[[1]], cancelled=True)) == ["CANCELLED"]


def test_stream_that_fails_in_its_cancellation_has_its_traceback_logged():
    class Failing(Waiting):
        async def wait(self, N):
            try:
                await asyncio.sleep(WAITS_FOR_EVER)
            finally:
                raise OSError("socket already closed")
            yield N

    with open_harness(Failing) as model:
        got = seen(model.stream(N=[[1]], cancelled=gone_after(1), empty_final=True))
        assert got == [1, "INTERNAL", "END"]
        assert "OSError: socket already closed" in model.log_text()


def test_stream_that_waits_with_a_time_limit_of_its_own_keeps_it():
    class Limited(Waiting):
        async def wait(self, N):
            try:
                await asyncio.wait_for(asyncio.sleep(WAITS_FOR_EVER), 0.1)
            except asyncio.TimeoutError:
                yield N + 1

    with open_harness(Limited) as model:
        assert seen(model.stream(N=[[1]], empty_final=True)) == [1, 2, "END"]


def test_stream_is_not_cancelled_in_its_clean_up():
    class Careful(Waiting):
        async def stream(self, N):
            try:
                yield N
                await asyncio.sleep(WAITS_FOR_EVER)
            finally:
                await asyncio.sleep(0.2)
                self.happened.append("cleaned")

    with open_harness(Careful) as model:
        got = seen(model.stream(N=[[1]], cancelled=gone_after(1), empty_final=True))
        assert got == [1, *CODES]
        assert model.instance.happened == ["cleaned"]


def run(work):
    asyncio.run(asyncio.wait_for(work(), 10))


def test_watch_block_that_is_left_asks_no_more_and_cancels_nothing_behind_it():
    asked = []

    async def work():
        with Watch(lambda: asked.append(1) is None):
            pass
        await asyncio.sleep(0.1)

    run(work)
    assert asked == []


def test_watch_block_that_is_entered_again_is_watched_again():
    gone = []

    async def work():
        watch = Watch(lambda: bool(gone))
        with watch:
            await asyncio.sleep(0.05)
        gone.append(1)
        with watch:
            await asyncio.sleep(WAITS_FOR_EVER)

    with pytest.raises(ClientGoneError):
        run(work)


def test_watch_cancels_once_so_that_a_clean_up_inside_of_the_block_ends():
    asked = []

    async def work():
        with Watch(lambda: asked.append(1) is None):
            try:
                await asyncio.sleep(WAITS_FOR_EVER)
            finally:
                await asyncio.sleep(0.1)

    with pytest.raises(ClientGoneError):
        run(work)
    assert asked == [1]


def test_watch_whose_question_fails_asks_again():
    asked = []

    def ask():
        asked.append(1)
        if len(asked) == 1:
            raise RuntimeError("broken pipe")
        return True

    async def work():
        with Watch(ask):
            await asyncio.sleep(WAITS_FOR_EVER)

    with pytest.raises(ClientGoneError):
        run(work)
    assert len(asked) == 2


def test_watch_block_that_another_cancels_is_not_said_to_have_lost_its_client():
    async def waits():
        with Watch(lambda: False):
            await asyncio.sleep(WAITS_FOR_EVER)

    async def work():
        task = asyncio.ensure_future(waits())
        await asyncio.sleep(0.05)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        run(work)
