"""Requests on an event loop, as a replica on Ray sends them: answers, refusals, streams however they end."""

import asyncio
import contextlib
import time

import pytest

from kindaware.client import ModelClientError
from kindaware.client._async_transport import AsyncTransport
from kindaware.client._transport import Call

pytestmark = pytest.mark.server

SECONDS = 30.0


def run(address, use):
    """Run a coroutine that gets an open transport."""

    async def open_and_use():
        transport = AsyncTransport(address)
        try:
            return await asyncio.wait_for(use(transport), SECONDS)
        finally:
            await transport.close()

    return asyncio.run(open_and_use())


async def call_of(transport, model, x, *, timeout_seconds=SECONDS):
    metadata = await transport.metadata(model, "", SECONDS)
    return Call.of(metadata, {"X": x}, timeout_seconds=timeout_seconds)[0]


async def infer(transport, model, x, **options):
    return await transport.infer(model, "", await call_of(transport, model, x, **options))


async def stream(transport, x, **options):
    call = await call_of(transport, "counts", x, **options)
    async with contextlib.aclosing(transport.stream("counts", "", call)) as answers:
        async for one in answers:
            yield int(one["Y"][0, 0])


def test_requests_in_flight_together_get_their_own_answers(server):
    async def use(transport):
        return await asyncio.gather(*(infer(transport, "adds", [n, n + 0.5]) for n in range(20)))

    answers = run(server.grpc_url, use)
    assert [one["Y"].tolist() for one in answers] == [[[n + 1, n + 1.5]] for n in range(20)]


@pytest.mark.parametrize(
    ("model", "x", "code", "text"),
    [("adds", [-1.0, 0.0], "NOT_FOUND", "negative"), ("nope", [0.0, 0.0], "NOT_FOUND", "unknown model")],
)
def test_refusal_has_its_code(server, model, x, code, text):
    with pytest.raises(ModelClientError, match=text) as raised:
        run(server.grpc_url, lambda transport: infer(transport, model, x))
    assert raised.value.code == code


def test_answer_that_is_late_is_an_error(server):
    with pytest.raises(ModelClientError, match="model 'waits': expected an answer") as raised:
        run(server.grpc_url, lambda transport: infer(transport, "waits", [2.0, 0.0], timeout_seconds=0.3))
    assert raised.value.code == "DEADLINE_EXCEEDED"


def test_server_that_is_not_there_is_named():
    with pytest.raises(ModelClientError, match=r"127\.0\.0\.1:1"):
        run("127.0.0.1:1", lambda transport: infer(transport, "adds", [0.0, 0.0]))


def test_stream_yields_each_answer_and_ends(server):
    async def use(transport):
        return [one async for one in stream(transport, [3.0, 0.0])]

    assert run(server.grpc_url, use) == [0, 1, 2]


def test_stream_that_fails_raises_after_the_answers_before(server):
    found = []

    async def use(transport):
        async for one in stream(transport, [9.0, 0.0]):
            found.append(one)

    with pytest.raises(ModelClientError, match="five"):
        run(server.grpc_url, use)
    assert found == [0, 1, 2, 3, 4]


def test_stream_whose_next_answer_is_late_is_an_error(server):
    async def use(transport):
        return [one async for one in stream(transport, [2.0, 2.0], timeout_seconds=0.3)]

    with pytest.raises(ModelClientError, match=r"model 'counts': expected an answer within 0\.3 s"):
        run(server.grpc_url, use)


def test_stream_that_is_left_ends_on_the_server(server):
    async def use(transport):
        async for one in stream(transport, [200.0, 0.2]):
            assert one == 0
            await asyncio.sleep(0.1)  # cancelled while an answer is sent, Triton 2.51 may keep the request
            break
        # The model has one instance, which the other stream would keep for 40 s.
        started = time.monotonic()
        assert [one async for one in stream(transport, [1.0, 0.0])] == [0]
        return time.monotonic() - started

    assert run(server.grpc_url, use) < 10
