"""Loads of the benchmarks: the load generator of `kindaware bench`, for which any error is one too many."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.servers.others import awake
from benchmarks.servers.target import Target
from kindaware.cli.bench import _load as load_generator
from kindaware.cli.bench._connections import Ask, LoadError, connect
from kindaware.cli.bench._stats import interleave

__all__ = ["Load", "LoadError", "ask", "ask_each", "measure", "measure_in_turns", "measure_mixed"]

_ANSWER_SECONDS = 120.0


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
    tally = load_generator.run_load(
        target,
        load_generator.Load(concurrency),
        seconds,
        warmup_seconds=settle_seconds,
        timeout_seconds=_ANSWER_SECONDS,
    )
    if tally.errors:
        raise LoadError(next(iter(tally.errors)))
    p50, p99 = np.percentile(tally.latencies, [50, 99]) * 1e3
    number = len(tally.latencies)
    return Load(
        number / tally.seconds, float(p50), float(p99), number, tally.processor_seconds / number * 1e6
    )


def measure_mixed(target: Target, messages: Sequence[bytes], concurrency: int, seconds: float) -> float:
    """Keep requests of several kinds in flight for some seconds, and return the answers per second.

    Each client sends every `concurrency`-th message, over and over; the clients begin at different ones.

    Raises:
        LoadError: a request was refused.
    """

    async def send(client: Ask, own: Sequence[bytes], ends: float) -> int:
        number = 0
        for message in itertools.cycle(own):
            await asyncio.wait_for(client(message), _ANSWER_SECONDS)
            number += 1
            if time.perf_counter() > ends:
                break
        return number

    async def run() -> float:
        async with connect(target) as make_client:
            started = time.perf_counter()
            clients = [(make_client(), messages[place::concurrency]) for place in range(concurrency)]
            numbers = await asyncio.gather(*[send(*one, started + seconds) for one in clients])
            return sum(numbers) / (time.perf_counter() - started)

    return asyncio.run(run())


def ask(target: Target, number: int = 1) -> list[bytes]:
    """Send a request that many times at once, and return the answers; over HTTP with their headers.

    Raises:
        LoadError: one of them was refused.
    """
    return ask_each(target, [target.message] * number)


def ask_each(target: Target, messages: Sequence[bytes]) -> list[bytes]:
    """Send several requests at once, and return their answers in order; over HTTP with their headers.

    Raises:
        LoadError: one of them was refused.
    """

    async def once() -> list[bytes]:
        async with connect(target) as make_client:
            work = asyncio.gather(*[make_client()(message) for message in messages])
            answers = await asyncio.wait_for(work, _ANSWER_SECONDS)
        return [answer for answer in answers if isinstance(answer, bytes)]

    return asyncio.run(once())
