"""The load generator against a server that counts."""

import asyncio
import contextlib
import socket
import threading

import pytest
import torch
from benchmarks.servers.load import LoadError, ask, ask_each, measure, measure_mixed
from benchmarks.servers.target import plain_target, read_values, triton_target

ANSWER = b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: 7\r\nContent-Length: 8\r\n\r\n"
BODY = torch.tensor([1.0, 2.0]).numpy().tobytes()


class Counter:
    """Answers every request in two pieces, after a moment, and counts how many it has at once."""

    def __init__(self, head=ANSWER):
        self.head, self.now, self.most, self.total, self.first = head, 0, 0, 0, b""

    async def serve(self, reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().rpartition(b"content-length: ")[2])
            self.first = self.first or head + await reader.readexactly(length)
            if head not in self.first:
                await reader.readexactly(length)
            self.now, self.total = self.now + 1, self.total + 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.005)
            self.now -= 1
            for piece in (self.head + BODY[:3], BODY[3:]):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)


@pytest.fixture
def serve():
    """Serve a Counter on a port of the loopback interface, for the test's duration."""
    loops = []

    def start(counter):
        listener = socket.create_server(("127.0.0.1", 0))

        async def run():
            stop = asyncio.Event()
            loops.append((asyncio.get_running_loop(), stop))

            writers = []

            async def handle(reader, writer):
                writers.append(writer)
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                    await counter.serve(reader, writer)

            async with await asyncio.start_server(handle, sock=listener):
                await stop.wait()
                for writer in writers:
                    writer.close()
                await asyncio.gather(*[one.wait_closed() for one in writers], return_exceptions=True)

        thread = threading.Thread(target=asyncio.run, args=(run(),))
        thread.start()
        loops.append(thread)
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for one in loops:
        if isinstance(one, tuple):
            one[0].call_soon_threadsafe(one[1].set)
    for one in loops:
        if isinstance(one, threading.Thread):
            one.join(10)


def test_measure_keeps_as_many_requests_in_flight_as_it_was_told(serve):
    counter = Counter()
    target = plain_target(serve(counter), "/predict", torch.zeros(1, 4))

    load = measure(target, 5, 0.2, settle_seconds=0.05)

    assert counter.most == 5
    assert 0 < load.num_requests < counter.total
    assert 5 <= load.p50_ms <= load.p99_ms
    assert load.requests_per_second <= 5 / 0.005
    assert load.client_us > 0


def test_ask_over_http_sends_the_tensor_and_reads_an_answer_in_pieces(serve):
    counter = Counter()
    rows = torch.arange(4.0).reshape(1, 4)
    target = triton_target("http", serve(counter), "mlp_floor_1", rows)

    answers = ask(target, 2)

    assert [read_values(target, answer, (1, 2)).tolist() for answer in answers] == [[[1.0, 2.0]]] * 2
    assert counter.first.startswith(b"POST /v2/models/mlp_floor_1/infer HTTP/1.1\r\n")
    assert counter.first.endswith(rows.numpy().tobytes())


class Noting(Counter):
    """Notes what each request is for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    async def serve(self, reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(int(head.lower().rpartition(b"content-length: ")[2]))
            self.asked.append(head.split()[1].decode())
            await asyncio.sleep(0.002)
            writer.write(ANSWER + BODY)


def test_measure_mixed_sends_every_message_and_counts_the_answers(serve):
    noting = Noting()
    address = serve(noting)
    targets = [plain_target(address, f"/{place}", torch.zeros(1)) for place in range(4)]
    rate = measure_mixed(targets[0], [one.message for one in targets], 2, 0.3)

    assert set(noting.asked) == {"/0", "/1", "/2", "/3"}
    assert noting.asked[:2] == ["/0", "/1"]
    assert len(noting.asked) / 10 < rate < len(noting.asked) / 0.3


def test_ask_each_returns_the_answers_in_order(serve):
    noting = Noting()
    address = serve(noting)
    messages = [plain_target(address, f"/{place}", torch.zeros(1)).message for place in range(3)]
    answers = ask_each(plain_target(address, "/", torch.zeros(1)), messages)

    assert len(answers) == 3
    assert sorted(noting.asked) == ["/0", "/1", "/2"]


def test_measure_of_a_server_that_refuses_has_its_words(serve):
    refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 8\r\n\r\n"
    target = plain_target(serve(Counter(refusal)), "/predict", torch.zeros(1, 4))

    with pytest.raises(LoadError, match="400 Bad Request"):
        measure(target, 2, 0.1)


def test_ask_of_a_server_that_hangs_up_is_an_error(serve):
    class Silent(Counter):
        async def serve(self, reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.close()

    target = plain_target(serve(Silent()), "/predict", torch.zeros(1, 4))

    with pytest.raises(LoadError, match="closed without an answer"):
        ask(target)


def test_grpc_message_is_the_request_that_tritonclient_makes():
    import numpy as np
    from tritonclient.grpc import InferInput
    from tritonclient.grpc._utils import _get_inference_request

    rows = torch.arange(32).reshape(1, 32)
    tensor = InferInput("X", [1, 32], "INT64")
    tensor.set_data_from_numpy(rows.numpy().astype(np.int64))
    made = _get_inference_request(
        model_name="m",
        inputs=[tensor],
        model_version="",
        request_id="",
        outputs=None,
        sequence_id=0,
        sequence_start=False,
        sequence_end=False,
        priority=0,
        timeout=None,
        parameters=None,
    )

    assert triton_target("grpc", "", "m", rows).message == made.SerializeToString()
