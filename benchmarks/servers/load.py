"""The load generator: a fixed number of clients, each of which sends its next request on an answer.

It shares its cores with the server, so it does as little as it can: the requests are bytes that were made
before, answers are counted and not parsed. Over HTTP it speaks to the sockets itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.servers.others import awake
from benchmarks.servers.target import Target
from benchmarks.stats import interleave

_Ask = Callable[[bytes], Awaitable[bytes]]
_GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_ANSWER_SECONDS = 120.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class LoadError(Exception):
    """A request was not answered as it should be; the message has the server's words."""


@dataclass(frozen=True)
class Load:
    """What one measurement saw.

    Attributes:
        requests_per_second: answers over the time from the first request to the last answer.
        p50_ms: median latency of a request.
        p99_ms: the latency that one request in a hundred exceeds.
        num_requests: how many were answered.
        client_us: processor time of the client per request, microseconds.
    """

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    num_requests: int
    client_us: float


def measure_in_turns(
    targets: Mapping[str, Target], concurrency: int, seconds: float, num_rounds: int
) -> list[dict[str, Load]]:
    """Measure all targets once per round, after a short round that isn't kept."""

    def measurement(target: Target, duration: float) -> Callable[[], Load]:
        def run() -> Load:
            with awake(target):
                return measure(target, concurrency, duration, settle_seconds=min(0.2, duration / 3))

        return run

    interleave({name: measurement(target, min(0.5, seconds)) for name, target in targets.items()}, 1)
    return interleave({name: measurement(target, seconds) for name, target in targets.items()}, num_rounds)


def measure(target: Target, concurrency: int, seconds: float, settle_seconds: float = 0.2) -> Load:
    """Keep `concurrency` requests in flight for some seconds; waits until the last one is answered.

    Args:
        target: the model.
        concurrency: number of clients, each with one request at a time.
        seconds: for how long new requests are sent, at least one per client.
        settle_seconds: the same before it, without counting.

    Raises:
        LoadError: a request was refused or not answered in time.
    """

    async def run() -> tuple[list[float], float, float]:
        async with _clients(target, concurrency) as clients:
            await _run(clients, target.message, settle_seconds)
            started, started_cpu = time.perf_counter(), time.process_time()
            latencies = await _run(clients, target.message, seconds)
            return latencies, time.perf_counter() - started, time.process_time() - started_cpu

    latencies, wall, cpu = asyncio.run(run())
    p50, p99 = np.percentile(latencies, [50, 99]) * 1e3
    return Load(len(latencies) / wall, float(p50), float(p99), len(latencies), cpu / len(latencies) * 1e6)


def ask(target: Target, number: int = 1) -> list[bytes]:
    """Send a request that many times at once, and return the answers; over HTTP with their headers.

    Raises:
        LoadError: one of them was refused.
    """

    async def once() -> list[bytes]:
        async with _clients(target, number) as clients:
            work = asyncio.gather(*[client(target.message) for client in clients])
            return await asyncio.wait_for(work, _ANSWER_SECONDS)

    return asyncio.run(once())


async def _run(clients: list[_Ask], message: bytes, seconds: float) -> list[float]:
    """Let every client ask until the time is over, and return the latencies in seconds."""
    latencies: list[float] = []
    now = time.perf_counter
    end = now() + seconds

    async def keep_asking(client: _Ask) -> None:
        sent = now()
        while True:
            await client(message)
            answered = now()
            latencies.append(answered - sent)
            if answered > end:
                return
            sent = answered

    work = asyncio.gather(*[keep_asking(client) for client in clients])
    try:
        await asyncio.wait_for(work, seconds + _ANSWER_SECONDS)
    except asyncio.TimeoutError as error:
        raise LoadError(f"no answer within {_ANSWER_SECONDS:g} s") from error
    return latencies


class _HttpClient(asyncio.Protocol):
    """One connection that asks and reads answers with a Content-Length."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._length = 0
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._loop = asyncio.get_running_loop()

    def ask(self, message: bytes) -> asyncio.Future[bytes]:
        """Send a whole request; the future gets the answer with its headers."""
        self._answer = self._loop.create_future()
        self.transport.write(message)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._length:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._received, 0, end)
            if length is None:
                raise LoadError(f"answer without Content-Length: {bytes(self._received[:end])!r}")
            self._length = end + 4 + int(length[1])
        if len(self._received) >= self._length:
            self._finish(bytes(self._received))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LoadError(f"connection closed without an answer ({exc})"))

    def _finish(self, answer: bytes) -> None:
        self._received.clear()
        self._length = 0
        assert self._answer is not None
        if answer.startswith(b"HTTP/1.1 200"):
            self._answer.set_result(answer)
        else:
            self._answer.set_exception(LoadError(answer[:2000].decode(errors="replace")))


@contextlib.asynccontextmanager
async def _clients(target: Target, number: int) -> AsyncIterator[list[_Ask]]:
    """Open that many clients, and close them in the end."""
    if target.protocol == "grpc":
        import grpc

        async with grpc.aio.insecure_channel(target.address) as channel:
            yield [channel.unary_unary(_GRPC_METHOD)] * number
        return
    host, _, port = target.address.rpartition(":")
    loop = asyncio.get_running_loop()
    made = [(await loop.create_connection(_HttpClient, host, int(port)))[1] for _ in range(number)]
    try:
        yield [client.ask for client in made]
    finally:
        for client in made:
            client.transport.close()
