"""The load generator with clients that need no server."""

import asyncio
import contextlib
import time

import pytest

from kindaware.cli.bench import _load
from kindaware.cli.bench._connections import LoadError, connect
from kindaware.cli.bench._load import Load, Tally, run_load
from kindaware.cli.bench._target import Target, make_message

TARGET = Target("grpc", "", b"request")


@pytest.fixture
def use_client(monkeypatch):
    """Let all clients ask a function."""

    def use(ask):
        @contextlib.asynccontextmanager
        async def fake(target):
            yield lambda: ask

        monkeypatch.setattr(_load, "connect", fake)

    return use


def run(load, seconds=0.2, **options):
    return run_load(TARGET, load, seconds, **{"warmup_seconds": 0, "timeout_seconds": 1, **options})


def test_closed_loop_keeps_its_number_in_flight(use_client):
    now, most = 0, 0

    async def ask(message):
        nonlocal now, most
        assert message == b"request"
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return b"answer"

    use_client(ask)
    tally = run(Load(3))
    assert most == 3
    assert not tally.errors
    assert 3 <= len(tally.latencies) <= 3 * 0.2 / 0.01 + 3
    assert min(tally.latencies) >= 0.009
    assert tally.seconds >= 0.2


def test_rate_counts_from_when_a_request_was_due(use_client):
    async def ask(message):
        time.sleep(0.02)  # nothing else can be sent meanwhile: 50 per second at most
        return b"answer"

    use_client(ask)
    tally = run(Load(rate=200), timeout_seconds=5)
    assert 20 <= len(tally.latencies) <= 70
    assert max(tally.latencies) > 0.1


def test_rate_is_the_mean_of_what_is_sent(use_client):
    async def ask(message):
        return b"answer"

    use_client(ask)
    assert 60 <= len(run(Load(rate=200), 0.5).latencies) <= 140


def test_errors_are_counted_by_their_text_and_not_as_answers(use_client):
    number = 0

    async def ask(message):
        nonlocal number
        number += 1
        if number % 2:
            raise LoadError("no")
        return b"answer"

    use_client(ask)
    tally = run(Load(1))
    assert tally.errors["no"] >= 1
    assert len(tally.latencies) + tally.errors["no"] == number
    assert number <= 2 * (0.2 / 0.05 + 1)  # it pauses after an error


def test_warm_up_without_an_answer_ends_it(use_client):
    async def ask(message):
        raise LoadError("always")

    use_client(ask)
    with pytest.raises(LoadError, match="always"):
        run(Load(1), warmup_seconds=0.05)


def test_warm_up_is_not_counted_and_start_is_told(use_client):
    asked = 0

    async def ask(message):
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return b"answer"

    use_client(ask)
    before = []
    tally = run(Load(1), 0.05, warmup_seconds=0.1, on_start=lambda: before.append(asked))
    assert before[0] >= 2
    assert len(tally.latencies) == asked - before[0]


@pytest.mark.parametrize("load", [Load(2), Load(rate=50)])
def test_requests_without_an_answer_are_errors(use_client, load):
    async def ask(message):
        await asyncio.sleep(60)

    use_client(ask)
    started = time.perf_counter()
    tally = run(load, 0.1, timeout_seconds=0.1)
    assert time.perf_counter() - started < 5
    assert tally.errors["no answer in time"] >= 1
    assert not tally.latencies


def test_interrupted_tally_has_what_was_there(use_client):
    tally = Tally()

    async def ask(message):
        if len(tally.latencies) == 3:
            raise KeyboardInterrupt
        return b"answer"

    use_client(ask)
    with pytest.raises(KeyboardInterrupt):
        run(Load(1), 5, tally=tally)
    assert len(tally.latencies) == 3
    assert 0 < tally.seconds < 5


def test_stream_has_first_item_and_gaps(use_client):
    async def ask(message):
        times = []
        for _ in range(3):
            await asyncio.sleep(0.01)
            times.append(time.perf_counter())
        return times

    use_client(ask)
    tally = run(Load(1), 0.1)
    streams = len(tally.latencies)
    assert tally.num_items == 3 * streams
    assert len(tally.first_items) == streams
    assert len(tally.gaps) == 2 * streams
    assert min(tally.gaps) >= 0.009


def test_http_client_connects_again_after_the_server_has_hung_up():
    answers = [
        b"HTTP/1.1 400 Bad\r\nContent-Length: 15\r\n\r\n" + b'{"error":"odd"}',
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ]

    async def handle(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0))
        await writer.drain()
        writer.close()

    async def ask_twice():
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(Target("http", f"127.0.0.1:{port}", b"")) as make_client:
                client = make_client()
                with pytest.raises(LoadError, match="400 Bad: odd"):
                    await client(b"GET / HTTP/1.1\r\n\r\n")
                while True:  # the end of the connection takes a moment to arrive
                    with contextlib.suppress(LoadError):
                        return await client(b"GET / HTTP/1.1\r\n\r\n")
                    await asyncio.sleep(0.01)

    assert asyncio.run(ask_twice()).startswith(b"HTTP/1.1 200")


def test_nobody_at_the_address_is_an_error():
    with pytest.raises(LoadError, match="Connect call failed"):
        run_load(Target("http", "127.0.0.1:1", b""), Load(1), 0.1, warmup_seconds=0.1, timeout_seconds=1)


def test_http_message_has_what_the_server_needs_of_every_data_type():
    import json

    import numpy as np

    arrays = {"T": np.array([[b"ab"]], dtype=object), "H": np.array([[1.5]], dtype=np.float32)}
    message = make_message("http", "a/b", arrays, {"T": "BYTES", "H": "BF16"}, version="2")
    head, _, body = message.partition(b"\r\n\r\n")
    length = int(head.split(b"Inference-Header-Content-Length: ")[1].split(b"\r\n")[0])
    assert head.startswith(b"POST /v2/models/a%2Fb/versions/2/infer HTTP/1.1\r\n")
    assert head.endswith(b"Content-Length: %d" % len(body))
    assert [one["parameters"] for one in json.loads(body[:length])["inputs"]] == [
        {"binary_data_size": 6},
        {"binary_data_size": 2},
    ]
    assert body[length:] == b"\x02\x00\x00\x00ab" + b"\xc0\x3f"
