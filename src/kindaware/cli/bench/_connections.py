"""Connections of the load generator: bytes out, and as little as can be done with the answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from kindaware.cli.bench._target import Target

ItemTimes = list[float]
"""When the items of a stream came, by `time.perf_counter`."""

Ask = Callable[[bytes], Awaitable[bytes | ItemTimes]]
"""Sends a request and waits for its answer; raises LoadError where it is refused."""

Pairs = tuple[tuple[str, str], ...]
"""Names and values that go with a call."""

_SERVICE = "/inference.GRPCInferenceService"
_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LONGEST_ERROR = 300


class LoadError(Exception):
    """A request was not answered as it should be; the message has the server's words."""


@contextlib.asynccontextmanager
async def connect(target: Target) -> AsyncIterator[Callable[[], Ask]]:
    """Yield what makes clients, each of which has one request at a time; closes them in the end."""
    if target.protocol == "grpc":
        import grpc

        async with grpc.aio.insecure_channel(target.address, options=_OPTIONS) as channel:
            make_asker = _stream_asker if target.is_stream else _grpc_asker
            ask = make_asker(channel, tuple(target.metadata.items()))
            yield lambda: ask
        return
    made: list[_HttpClient] = []

    def make() -> Ask:
        made.append(_HttpClient(target.address))
        return made[-1].ask

    try:
        yield make
    finally:
        for client in made:
            client.close()


def _grpc_asker(channel: object, metadata: Pairs) -> Ask:
    import grpc

    call = channel.unary_unary(f"{_SERVICE}/ModelInfer")  # type: ignore[attr-defined]  # grpc has no types

    async def ask(message: bytes) -> bytes:
        try:
            answer: bytes = await call(message, metadata=metadata)
        except grpc.RpcError as error:
            raise _refused(error) from None
        return answer

    return ask


def _stream_asker(channel: object, metadata: Pairs) -> Ask:
    import grpc
    from tritonclient.grpc.service_pb2 import ModelStreamInferResponse

    open_stream = channel.stream_stream(f"{_SERVICE}/ModelStreamInfer")  # type: ignore[attr-defined]  # the same
    now = time.perf_counter

    async def ask(message: bytes) -> ItemTimes:
        times = []
        try:
            async for answer in open_stream(iter((message,)), metadata=metadata):
                came = now()
                item = ModelStreamInferResponse.FromString(answer)
                if item.error_message:
                    raise LoadError(item.error_message[:_LONGEST_ERROR])
                if item.infer_response.outputs:
                    times.append(came)
        except grpc.RpcError as error:
            raise _refused(error) from None
        return times

    return ask


def _refused(error: object) -> LoadError:
    code, details = error.code().name, error.details()  # type: ignore[attr-defined]  # grpc has no types
    return LoadError(f"{code}: {details}"[:_LONGEST_ERROR])


class _HttpClient:
    """A client that connects when it has to: at first, and after the server has hung up."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._connection: _Connection | None = None

    def ask(self, message: bytes) -> Awaitable[bytes]:
        connection = self._connection
        if connection is None or connection.is_of_no_use():
            return self._connect_and_ask(message)
        return connection.ask(message)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.transport.close()

    async def _connect_and_ask(self, message: bytes) -> bytes:
        self.close()
        loop = asyncio.get_running_loop()
        try:
            _, self._connection = await loop.create_connection(_Connection, self._host, self._port)
        except OSError as error:
            raise LoadError(str(error)) from None
        return await self._connection.ask(message)


class _Connection(asyncio.Protocol):
    """One connection that asks and reads answers with a Content-Length."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._length = 0
        self._answer: asyncio.Future[bytes] | None = None
        self._is_waiting = False

    def is_of_no_use(self) -> bool:
        """Whether it is closed, or an answer that nobody waits for any longer is still to come."""
        return self._is_waiting or self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._loop = asyncio.get_running_loop()

    def ask(self, message: bytes) -> asyncio.Future[bytes]:
        """Send a whole request; the future gets the answer with its headers."""
        self._answer = self._loop.create_future()
        self._is_waiting = True
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
                self._fail(f"answer without Content-Length: {bytes(self._received[:end])!r}")
                self.transport.close()
                return
            self._length = end + 4 + int(length[1])
        if len(self._received) >= self._length:
            self._finish(bytes(self._received))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"connection closed without an answer ({exc})")

    def _finish(self, answer: bytes) -> None:
        self._received.clear()
        self._length = 0
        self._is_waiting = False
        if self._answer is None or self._answer.done():
            return
        if answer.startswith(b"HTTP/1.1 200"):
            self._answer.set_result(answer)
        else:
            self._fail(_read_refusal(answer))

    def _fail(self, text: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LoadError(text[:_LONGEST_ERROR]))


def _read_refusal(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0].partition(b" ")[2].decode(errors="replace")
    try:
        return f"{status}: {json.loads(body)['error']}"
    except (ValueError, KeyError, TypeError):
        return f"{status}: {body.decode(errors='replace')}"
