"""The clients of the rehearsal: they check every answer, and remember when each came and what went wrong."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import numpy as np
import tritonclient.grpc.aio as grpc_client
import tritonclient.http.aio as http_client
from grpc.aio import AioRpcError
from tritonclient.utils import InferenceServerException

MAX_TRIES = 20
PAUSE_SECONDS = 0.1
_MAY_RETRY = {"StatusCode.UNAVAILABLE", "502", "503", "504"}


@dataclass
class Tally:
    """What has become of the requests of one kind.

    Attributes:
        answered: how many have been answered rightly, at once or in a further try.
        lost: how many have not, after all tries.
        wrong: how many had another's answer.
        failed_tries: what the client saw of failed tries, by text.
        times: when each answered request began, and how many seconds it took, with its further tries.
        failures: when a try failed.
    """

    answered: int = 0
    lost: int = 0
    wrong: int = 0
    failed_tries: Counter = field(default_factory=Counter)
    times: list = field(default_factory=list)
    failures: list = field(default_factory=list)


@dataclass
class Streams:
    """What has become of the streams of one kind.

    Attributes:
        complete: how many had all their items, in order, and their end.
        errors: how many ended with an error, by its text.
        without_end: how many ended early, as if that were all.
        wrong: how many had an item that was not the next one.
    """

    complete: int = 0
    errors: Counter = field(default_factory=Counter)
    without_end: int = 0
    wrong: int = 0

    def as_json(self):
        return {
            "complete": self.complete,
            "errors": dict(self.errors),
            "without_end": self.without_end,
            "wrong": self.wrong,
        }


class Load:
    """Requests from several clients at once, until there have been enough and `has_enough` is set.

    Args:
        address: of Envoy.
        num_requests: how many in all, at least.
        rate: how many begin in a second, if the servers keep up with it.
    """

    def __init__(self, address, num_requests, rate):
        self.address = address
        self.num_requests = num_requests
        self.rate = rate
        self.has_enough = False
        self.num_begun = self.num_sent = 0
        self.grpc, self.http = Tally(), Tally()
        self.short_streams, self.long_streams = Streams(), Streams()
        self.started = time.monotonic()
        self.is_over = asyncio.Event()

    @property
    def num_done(self):
        return sum(one.answered + one.lost + one.wrong for one in (self.grpc, self.http))

    def now(self):
        return time.monotonic() - self.started

    async def run(self, num_grpc=24, num_http=16, num_streams=4, num_long_streams=4):
        """Send requests from so many clients, and keep streams of 1 s and of 60 s open beside them."""
        streams = [
            *(self._stream(self.short_streams, 20, 0.05) for _ in range(num_streams)),
            *(self._stream(self.long_streams, 120, 0.5) for _ in range(num_long_streams)),
        ]
        streams = [asyncio.create_task(one) for one in streams]
        await asyncio.gather(
            *(self._send_grpc() for _ in range(num_grpc)), *(self._send_http() for _ in range(num_http))
        )
        self.is_over.set()
        for one in streams:
            one.cancel()
        await asyncio.gather(*streams, return_exceptions=True)

    async def _next(self):
        """Wait until the next request is due; return whether there is one."""
        if self.has_enough and self.num_begun >= self.num_requests:
            return False
        self.num_begun += 1
        await asyncio.sleep(max(0.0, self.num_begun / self.rate - self.now()))
        return True

    async def _send_grpc(self):
        async with grpc_client.InferenceServerClient(self.address) as client:
            while await self._next():
                await self._ask(client, grpc_client, self.grpc, {"client_timeout": 60})

    async def _send_http(self):
        async with http_client.InferenceServerClient(self.address, conn_timeout=60) as client:
            while await self._next():
                await self._ask(client, http_client, self.http, {})

    async def _ask(self, client, module, tally, options):
        self.num_sent += 1
        x = np.full((1, 4), self.num_sent, np.float32)
        tensor = module.InferInput("X", [1, 4], "FP32").set_data_from_numpy(x)
        begun = self.now()
        for _ in range(MAX_TRIES):
            try:
                answer = await client.infer("double", [tensor], **options)
            except (InferenceServerException, aiohttp.ClientError, OSError) as error:
                tally.failed_tries[_describe(error)] += 1
                tally.failures.append(self.now())
                if isinstance(error, InferenceServerException) and str(error.status()) not in _MAY_RETRY:
                    break
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if np.array_equal(answer.as_numpy("Y"), 2 * x):
                tally.answered += 1
                tally.times.append((begun, self.now() - begun))
            else:
                tally.wrong += 1
            return
        tally.lost += 1

    async def _stream(self, streams, num_items, seconds):
        """Read one stream after another. None is sent again: it may have begun."""
        inputs = [
            grpc_client.InferInput("NUM_ITEMS", [1], "INT32").set_data_from_numpy(
                np.array([num_items], np.int32)
            ),
            grpc_client.InferInput("SECONDS", [1], "FP32").set_data_from_numpy(
                np.array([seconds], np.float32)
            ),
        ]

        async def requests():
            yield {"model_name": "count", "inputs": inputs}

        async with grpc_client.InferenceServerClient(self.address) as client:
            while not self.is_over.is_set():
                expected = 0
                try:
                    async for answer, error in client.stream_infer(requests()):
                        if error is not None:
                            raise error
                        if answer.as_numpy("ITEM")[0] != expected:
                            streams.wrong += 1
                        expected += 1
                except (InferenceServerException, AioRpcError) as error:
                    streams.errors[_describe(error)] += 1
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                if expected == num_items:
                    streams.complete += 1
                elif not self.is_over.is_set():  # or it has been given up here
                    streams.without_end += 1


async def keep_sending(address, tally, is_over, now):
    """Send to one server, past Envoy, whatever it answers: a client that never lets go of its connection."""
    async with grpc_client.InferenceServerClient(address) as client:
        tensor = grpc_client.InferInput("X", [1, 4], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
        while not is_over.is_set():
            try:
                await client.infer("double", [tensor], client_timeout=5)
                tally.answered += 1
                tally.times.append((now(), 0.0))
            except InferenceServerException as error:
                tally.failed_tries[_describe(error)] += 1
            await asyncio.sleep(0.02)


def _describe(error):
    if isinstance(error, InferenceServerException):
        return f"{error.status()}: {error.message()}"[:200]
    if isinstance(error, AioRpcError):
        return f"{error.code()}: {error.details()}"[:200]
    return f"{type(error).__name__}: {error}"[:200]
