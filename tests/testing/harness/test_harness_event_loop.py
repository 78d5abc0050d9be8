"""What a model leaves on its event loop may still answer after `execute` has returned."""

import time

import numpy as np
import pytest
from harness_kit import DECOUPLED, PLAIN, floats, write_model

from kindaware.testing import ModelHarness, TritonContractError

LATER = {
    "task": "asyncio.get_running_loop().create_task(self.wait_and_send(request))",
    "future": "asyncio.ensure_future(self.wait_and_send(request))",
    "timer": "asyncio.get_running_loop().call_later(0.2, self.send, request)",
    "callback": "asyncio.get_running_loop().call_soon(self.send, request)",
    "slow callback": "asyncio.get_running_loop().call_soon(self.sleep_and_send, request)",
    "timer of a timer": (
        "l = asyncio.get_running_loop(); l.call_later(0.1, lambda: l.call_later(0.1, self.send, request))"
    ),
    "thread that calls back": (
        "threading.Thread(target=self.call_back, args=(asyncio.get_running_loop(), request)).start()"
    ),
    "socket": "self.watch(request)",
}

SOURCE = """
import socket

class TritonPythonModel:
    async def execute(self, requests):
        for request in requests:
            LATER
        return None

    def send(self, request):
        request.get_response_sender().send(answer(get(request)), 1)

    def sleep_and_send(self, request):
        time.sleep(0.2)
        self.send(request)

    async def wait_and_send(self, request):
        await asyncio.sleep(0.2)
        self.send(request)

    def call_back(self, loop, request):
        time.sleep(0.1)
        loop.call_soon_threadsafe(loop.call_later, 0.1, self.send, request)

    def watch(self, request):
        loop = asyncio.get_running_loop()
        self.ends = socket.socketpair()
        loop.add_reader(self.ends[0], self.send_once, loop, request)
        threading.Thread(target=self.ends[1].send, args=(b"x",)).start()

    def send_once(self, loop, request):
        loop.remove_reader(self.ends[0])
        [end.close() for end in self.ends]
        self.send(request)
"""


@pytest.mark.parametrize("config", [PLAIN, DECOUPLED], ids=["plain", "decoupled"])
@pytest.mark.parametrize("how", LATER)
def test_an_answer_from_the_event_loop_after_execute_arrives(tmp_path, how, config):
    folder = write_model(tmp_path, "m", SOURCE.replace("LATER", LATER[how]), config)
    with ModelHarness(folder) as model:
        for _ in range(2):
            (result,) = model.stream(X=floats(2))
            assert np.array_equal(result.outputs["Y"], floats(2))


@pytest.mark.parametrize(
    "left",
    [
        "pass",
        "asyncio.get_running_loop().call_soon(lambda: None)",
        "asyncio.ensure_future(asyncio.sleep(0.1))",
    ],
)
def test_a_hang_is_noticed_once_the_event_loop_has_nothing_left_to_do(tmp_path, left):
    folder = write_model(tmp_path, "m", SOURCE.replace("LATER", left))
    start = time.monotonic()
    with (
        ModelHarness(folder, hang_timeout_seconds=30) as model,
        pytest.raises(TritonContractError, match="waiting for ever"),
    ):
        model.infer(X=floats(2))
    assert time.monotonic() - start < 20


def test_a_task_that_never_ends_is_a_hang_after_the_timeout(tmp_path):
    source = SOURCE.replace("LATER", "self.task = asyncio.ensure_future(asyncio.Event().wait())")
    folder = write_model(tmp_path, "m", source)
    with (
        ModelHarness(folder, hang_timeout_seconds=0.3) as model,
        pytest.raises(TritonContractError, match="waiting for ever"),
    ):
        model.infer(X=floats(2))


def test_several_requests_in_one_decoupled_call_have_streams_of_their_own(tmp_path):
    source = """
    class TritonPythonModel:
        def execute(self, requests):
            for count in range(2):
                for one in requests:
                    one.get_response_sender().send(answer(get(one) + len(requests) + count))
            for one in requests:
                one.get_response_sender().send(flags=1)
    """
    folder = write_model(tmp_path, "m", source, DECOUPLED + "max_batch_size: 8")
    with ModelHarness(folder, raise_errors=False) as model:
        good, bad, other = model.stream_batch(
            [{"X": floats(1, 1)}, {"Q": floats(1, 1)}, {"X": floats(1, 1, start=10.0)}]
        )
        assert [one.outputs["Y"].item() for one in other] == [12.0, 13.0]
        assert [one.outputs["Y"].item() for one in good] == [3.0, 4.0]
        assert [one.error.code().name for one in bad] == ["INVALID_ARG"]
        assert model.served.instances[0].num_calls == 1
