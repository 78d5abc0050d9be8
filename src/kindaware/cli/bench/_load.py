"""The load generator: a fixed number of clients, or requests at a fixed rate.

It shares its cores with a server on the same machine, so it does as little as it can: the requests are bytes
that were made before, answers are counted and not parsed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from kindaware.cli.bench._connections import Ask, LoadError, connect
from kindaware.cli.bench._target import Target

_PAUSE_SECONDS = 0.05
"""After an error: a server that refuses at once is not asked without a pause."""

_MOST_IN_FLIGHT = 2000
_now = time.perf_counter


@dataclass(frozen=True)
class Load:
    """How requests are sent: `concurrency` in flight, or `rate` per second if that is not 0.

    Attributes:
        concurrency: number of clients, each of which sends its next request on an answer.
        rate: requests per second, at random moments (a Poisson process), whether or not others are answered.
    """

    concurrency: int = 1
    rate: float = 0.0

    def __str__(self) -> str:
        if self.rate:
            return f"{self.rate:g} requests per second"
        return f"{self.concurrency} request{'s' * (self.concurrency > 1)} in flight"


@dataclass
class Tally:
    """What clients have seen so far, all of it in seconds; it stays valid when they are interrupted.

    Attributes:
        latencies: of the requests that were answered, to the last item of a stream. At a rate they begin
            when the request was due, not when it was sent.
        first_items: from the request to the first item of its stream.
        gaps: between two items of a stream.
        num_items: of all streams.
        errors: how often each text came.
        started: when the first request was sent, by `time.perf_counter`.
        ended: when the last answer came, 0 while requests are in flight.
        processor_seconds: of this process, meanwhile.
    """

    latencies: list[float] = field(default_factory=list)
    first_items: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    num_items: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    started: float = 0.0
    ended: float = 0.0
    processor_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """From the first request to the last answer, or until now."""
        return (self.ended or _now()) - self.started

    def add_items(self, sent: float, times: list[float]) -> None:
        """Count the items of a stream."""
        if times:
            self.num_items += len(times)
            self.first_items.append(times[0] - sent)
            self.gaps += [after - before for before, after in pairwise(times)]


def run_load(
    target: Target,
    load: Load,
    seconds: float,
    *,
    warmup_seconds: float,
    timeout_seconds: float,
    tally: Tally | None = None,
    on_start: Callable[[], None] = lambda: None,
) -> Tally:
    """Send requests for some seconds; waits until the last one is answered.

    Args:
        target: the model.
        load: how requests are sent.
        seconds: for how long; at least one request per client.
        warmup_seconds: the same before it, without counting; 0 for none.
        timeout_seconds: how long the last answers may take.
        tally: what counts; it is kept up to date, also when this is interrupted.
        on_start: called when the warm-up is over.

    Raises:
        LoadError: all requests of the warm-up were refused.
    """
    counted = Tally() if tally is None else tally

    async def run() -> None:
        async with connect(target) as make_client:
            clients = _Clients(make_client)
            if warmup_seconds:
                warm_up = Tally()
                await _send(clients, target.message, load, warmup_seconds, timeout_seconds, warm_up)
                if not warm_up.latencies:
                    raise LoadError(next(iter(warm_up.errors), "no answer"))
            on_start()
            await _send(clients, target.message, load, seconds, timeout_seconds, counted)

    asyncio.run(run())
    return counted


class _Clients:
    """Clients to borrow: made when there is none that is free."""

    def __init__(self, make: Callable[[], Ask]) -> None:
        self._make = make
        self._free: list[Ask] = []

    def take(self) -> Ask:
        return self._free.pop() if self._free else self._make()

    def give_back(self, client: Ask) -> None:
        self._free.append(client)


async def _send(
    clients: _Clients, message: bytes, load: Load, seconds: float, timeout_seconds: float, tally: Tally
) -> None:
    """Send requests until the time is over, and wait for the last answers."""
    cpu = time.process_time()
    tally.started = _now()
    send = _send_at_rate if load.rate else _keep_in_flight
    try:
        await send(clients, message, load, seconds, timeout_seconds, tally)
    finally:
        tally.ended = _now()
        tally.processor_seconds = time.process_time() - cpu


async def _keep_in_flight(
    clients: _Clients, message: bytes, load: Load, seconds: float, timeout_seconds: float, tally: Tally
) -> None:
    end = tally.started + seconds
    latencies = tally.latencies

    async def keep_asking(client: Ask) -> None:
        sent = _now()
        while True:
            try:
                answer = await client(message)
            except LoadError as error:
                tally.errors[str(error)] += 1
                await asyncio.sleep(_PAUSE_SECONDS)
                answered = _now()
            else:
                answered = _now()
                latencies.append(answered - sent)
                if type(answer) is list:
                    tally.add_items(sent, answer)
            if answered > end:
                return
            sent = answered

    borrowed = [clients.take() for _ in range(load.concurrency)]
    await _wait(
        [asyncio.ensure_future(keep_asking(one)) for one in borrowed], seconds + timeout_seconds, tally
    )
    for one in borrowed:
        clients.give_back(one)


async def _send_at_rate(
    clients: _Clients, message: bytes, load: Load, seconds: float, timeout_seconds: float, tally: Tally
) -> None:
    in_flight: set[asyncio.Future[None]] = set()

    async def ask(due: float) -> None:
        client = clients.take()
        try:
            answer = await client(message)
            tally.latencies.append(_now() - due)
            if type(answer) is list:
                tally.add_items(due, answer)
        except LoadError as error:
            tally.errors[str(error)] += 1
        finally:
            clients.give_back(client)

    moments = random.Random(0)  # the same ones in every run
    due = tally.started
    try:
        while (due := due + moments.expovariate(load.rate)) < tally.started + seconds:
            await asyncio.sleep(max(due - _now(), 0.0))
            if len(in_flight) == _MOST_IN_FLIGHT:
                tally.errors[f"not sent, since {_MOST_IN_FLIGHT} requests wait for their answers"] += 1
                continue
            task = asyncio.ensure_future(ask(due))
            in_flight.add(task)
            task.add_done_callback(in_flight.discard)
        await _wait(list(in_flight), timeout_seconds, tally)
    finally:
        for unfinished in in_flight:
            unfinished.cancel()


async def _wait(tasks: list[asyncio.Future[None]], seconds: float, tally: Tally) -> None:
    """Wait for tasks; those that are late are ended, and counted as errors."""
    if not tasks:
        return
    try:
        done, late = await asyncio.wait(tasks, timeout=seconds)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    for task in late:
        task.cancel()
    if late:
        await asyncio.gather(*late, return_exceptions=True)
        tally.errors["no answer in time"] += len(late)
    for task in done:
        task.result()
