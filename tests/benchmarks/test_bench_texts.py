"""The forms that write texts, what they are asked, and the clients that read their streams."""

import asyncio
import contextlib
import json
import socket
import threading

import pytest
import torch
from benchmarks.parts.step import MODELS, TICKER, run_bare_loop
from benchmarks.servers.repository import GPT_FOLDER, write_model
from benchmarks.servers.streams import LoadError, measure_first_items, measure_wave
from benchmarks.servers.target import post_text_target, text_target
from benchmarks.text import PROMPT, TOKEN, WANTED, Writer, make_prompt

from kindaware.testing import ModelHarness

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NUM_ITEMS = 5


@pytest.fixture(scope="module")
def expected():
    """The tokens that the network writes by itself."""
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.syspath_prepend(str(GPT_FOLDER))
        writer = Writer("gpt")
        texts = [writer.begin(make_prompt(), NUM_ITEMS)]
        tokens = []
        for _ in range(NUM_ITEMS):
            texts = writer.step(texts)
            tokens.append(texts[0].token.item())
    return tokens


@pytest.mark.parametrize("form", MODELS)
def test_form_writes_what_the_network_does(form, expected, tmp_path):
    request = {PROMPT: make_prompt().numpy(), WANTED: [NUM_ITEMS]}
    with ModelHarness(write_model(tmp_path, MODELS[form])) as model:
        streams = model.stream_batch([request, request])
        assert [[item.outputs[TOKEN].item() for item in one] for one in streams] == [expected] * 2


def test_ticker_sends_as_many_items_as_it_was_asked_for(tmp_path):
    with ModelHarness(write_model(tmp_path, TICKER)) as model:
        items = list(model.stream({PROMPT: make_prompt().numpy(), WANTED: [3]}))
    assert [item.outputs[TOKEN].item() for item in items] == [3, 2, 1]


def test_bare_loop_is_timed_step_by_step(tmp_path):
    wave = run_bare_loop(write_model(tmp_path, MODELS["step"]), 2, 3)
    assert wave.items_per_second > 0
    assert wave.gap_ms > 0
    assert 0 < wave.first_item_ms < 6 / wave.items_per_second * 1e3


def test_request_over_http_is_json_and_over_grpc_a_message():
    from tritonclient.grpc.service_pb2 import ModelInferRequest

    over_http = text_target("http", "localhost:1", "gpt_step", 7)
    over_grpc = text_target("grpc", "localhost:1", "gpt_step", 7)
    head, _, body = over_http.message.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v2/models/gpt_step/generate_stream HTTP/1.1\r\n")
    assert json.loads(body) == {PROMPT: make_prompt().tolist(), WANTED: 7}
    request = ModelInferRequest.FromString(over_grpc.message)
    assert [one.name for one in request.inputs] == [PROMPT, WANTED]
    assert over_http.is_stream
    assert over_grpc.is_stream


class Events:
    """Answers every request with as many events as it wants, or with an answer of one's own."""

    def __init__(self, pause=0.001, answer=None):
        self.pause, self.answer = pause, answer

    async def serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.lower().rpartition(b"content-length: ")[2]))
        if self.answer is not None:
            writer.write(self.answer)
            return
        writer.write(HEAD)
        for _ in range(json.loads(body)[WANTED]):
            await asyncio.sleep(self.pause)
            writer.write(b"1\r\n\r\ndata: {")  # an event in two parts
            await writer.drain()
            await asyncio.sleep(self.pause)
            writer.write(b"}\n\n\r\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()


@pytest.fixture
def serve():
    """Serve Events on a port of the loopback interface, for the test's duration."""
    stops = []

    def start(events):
        listener = socket.create_server(("127.0.0.1", 0))

        async def handle(reader, writer):
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await events.serve(reader, writer)
            writer.close()

        async def run():
            stop = asyncio.Event()
            stops.append((asyncio.get_running_loop(), stop))
            async with await asyncio.start_server(handle, sock=listener):
                await stop.wait()

        thread = threading.Thread(target=asyncio.run, args=(run(),))
        thread.start()
        stops.append(thread)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        return lambda wanted: post_text_target(address, "/predict", wanted)

    yield start
    for one in stops:
        if isinstance(one, tuple):
            one[0].call_soon_threadsafe(one[1].set)
    for one in stops:
        if isinstance(one, threading.Thread):
            one.join(10)


def test_wave_counts_the_items_of_all_streams(serve):
    wave = measure_wave(serve(Events()), 3, 4)
    assert 0 < wave.items_per_second <= 12 / 0.008
    assert wave.first_item_ms >= 2
    assert wave.gap_ms >= 2
    assert wave.client_us > 0


def test_first_items_are_waited_for_in_steps_of_the_streams_that_run(serve):
    steps = measure_first_items(serve(Events()), 3, 200, 5)
    assert len(steps) == 5
    assert all(0.2 < one < 20 for one in steps)


def test_first_items_behind_streams_that_have_ended_are_an_error(serve):
    with pytest.raises(LoadError, match="the running streams have ended; ask for longer ones"):
        measure_first_items(serve(Events()), 2, 2, 5)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (HEAD + b"5\r\ndata: {}\n\n\r\n0\r\n\r\n", "expected a stream of 4 items, got 1"),
        (HEAD + b'5\r\ndata: {"error":"no room"}\n\n\r\n0\r\n\r\n', "no room"),
        (b'HTTP/1.1 400 Bad Request\r\nContent-Length: 21\r\n\r\n{"error":"not known"}', "not known"),
        (HEAD + b"5\r\ndata: {}\n\n\r\n", "closed before the end of the stream"),
    ],
    ids=["too short", "error", "refused", "cut off"],
)
def test_stream_that_is_not_whole_is_an_error(serve, answer, text):
    with pytest.raises(LoadError, match=text):
        measure_wave(serve(Events(answer=answer)), 1, 4)
