"""Streams of items: clients that ask for them all at once, and when each item came."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.servers.others import awake
from benchmarks.servers.target import Target
from benchmarks.text import TOKEN
from kindaware.cli.bench._connections import ItemTimes, LoadError, connect

Ask = Callable[[bytes], Awaitable[ItemTimes]]
MakeTarget = Callable[[int], Target]
"""Returns the request for a stream of so many items."""

_END_OF_EVENT, _END_OF_BODY = b"\n\n", b"0\r\n\r\n"
_SEVERAL = re.compile(rb'"' + TOKEN.encode() + rb'":\[([^\]]*)\]')
"""Items that share an event; one alone is a number without brackets."""

_ANSWER_SECONDS = 300.0
_now = time.perf_counter


@dataclass(frozen=True)
class Wave:
    """What the clients of streams that began together saw.

    Attributes:
        items_per_second: all items over the time from the first request to the last item.
        first_item_ms: from the request to the first item, median of the streams.
        gap_ms: between two items of a stream, median; NaN with streams of one item.
        client_us: processor time of the client per item, microseconds.
    """

    items_per_second: float
    first_item_ms: float
    gap_ms: float
    client_us: float


def measure_wave(make: MakeTarget, num_streams: int, num_items: int) -> Wave:
    """Ask for streams at once; waits until the last one has ended.

    Raises:
        LoadError: a stream was refused, or has not as many items as it should.
    """
    target = make(num_items)

    async def run() -> tuple[float, list[ItemTimes]]:
        async with _open(target) as ask:
            started = _now()
            asked = asyncio.gather(*[ask(target.message) for _ in range(num_streams)])
            return started, await asyncio.wait_for(asked, _ANSWER_SECONDS)

    with awake(target):
        processor = time.process_time()
        started, streams = asyncio.run(run())
        processor = time.process_time() - processor
    for times in streams:
        _check(times, num_items)
    items = num_streams * num_items
    gaps = np.diff(streams, axis=1)
    return Wave(
        items / (np.max(streams) - started),
        float(np.median([times[0] - started for times in streams])) * 1e3,
        float(np.median(gaps)) * 1e3 if gaps.size else float("nan"),
        processor / items * 1e6,
    )


def measure_first_items(make: MakeTarget, num_running: int, num_items: int, num_probes: int) -> list[float]:
    """Ask for one more stream after the other while some run.

    Args:
        make: of the target.
        num_running: how many streams run.
        num_items: of each of these.
        num_probes: how many further streams of one item are asked for, one at a time.

    Returns:
        The time to the first item of each further one, in steps: in medians of the time between two items of
        those that run.

    Raises:
        LoadError: a stream was refused, or the running ones have ended before the last further one.
    """
    target, probe = make(num_items), make(1)

    async def run() -> tuple[list[float], list[ItemTimes]]:
        async with _open(target) as ask:
            running = asyncio.gather(*[ask(target.message) for _ in range(num_running)])
            await ask(probe.message)  # it comes after all of them
            waited = []
            for _ in range(num_probes):
                sent = _now()
                times = await ask(probe.message)
                _check(times, 1)
                waited.append(times[0] - sent)
            if running.done():
                await running  # which raises where one of them has failed
                raise LoadError("the running streams have ended; ask for longer ones")
            return waited, await asyncio.wait_for(running, _ANSWER_SECONDS)

    with awake(target):
        waited, streams = asyncio.run(run())
    for times in streams:
        _check(times, num_items)
    step = float(np.median(np.diff(streams, axis=1)))
    return [seconds / step for seconds in waited]


@contextlib.asynccontextmanager
async def _open(target: Target) -> AsyncIterator[Ask]:
    """Yield what sends a request and returns when the items of its stream came."""
    if target.protocol == "http":
        host, _, port = target.address.rpartition(":")
        yield lambda message: _ask_for_events(host, int(port), message)
    else:
        async with connect(target) as make_client:
            yield make_client()  # type: ignore[misc]  # a stream's answer is the times of its items


async def _ask_for_events(host: str, port: int, message: bytes) -> ItemTimes:
    loop = asyncio.get_running_loop()
    try:
        _, events = await loop.create_connection(_Events, host, port)
    except OSError as error:
        raise LoadError(str(error)) from None
    events.transport.write(message)
    return await events.times


class _Events(asyncio.Protocol):
    """One connection for one request, whose answer is server-sent events."""

    def __init__(self) -> None:
        self.times: asyncio.Future[ItemTimes] = asyncio.get_running_loop().create_future()
        self._came: ItemTimes = []
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        now = _now()
        data = self._rest + data
        events, _, self._rest = data.rpartition(_END_OF_EVENT)
        if events:
            shared = sum(numbers.count(b",") for numbers in _SEVERAL.findall(events))
            self._came += [now] * (1 + events.count(_END_OF_EVENT) + shared)
        if b"error" in data:
            self._fail(data.decode(errors="replace"))
        elif self._rest.endswith(_END_OF_BODY) and not self.times.done():
            self.times.set_result(self._came)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"connection closed before the end of the stream ({exc})")

    def _fail(self, text: str) -> None:
        if not self.times.done():
            self.times.set_exception(LoadError(text[:300]))
            self.transport.close()


def _check(times: ItemTimes, num_items: int) -> None:
    if len(times) != num_items:
        raise LoadError(f"expected a stream of {num_items} items, got {len(times)}; look at the server's log")
