"""`ModelClient`: sends arrays to one model of a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from kindaware.client._errors import ModelClientError
from kindaware.client._metadata import Arrays, Metadata
from kindaware.client._transport import Call, Transport

_END: Any = object()


class ModelClient:
    """Client that sends arrays to one model of a server.

        with ModelClient("localhost:8001", "resnet50") as model:
            outputs = model.infer(INPUT=picture)
            print(outputs["OUTPUT"].argmax())

    Inputs are numpy arrays, torch tensors, numbers, text, or nested lists of these. They are converted to the
    model's data types; a conversion that would change their values raises ModelClientError. If the model has
    a batch dimension, inputs may omit it, and then the outputs omit it too.

    Args:
        url: `HOST:PORT` or `grpc://HOST:PORT` for gRPC, `http://HOST:PORT` for HTTP.
        model: name of the model.
        version: version of the model; chosen by the server by default.
        timeout_seconds: how long one answer, or one item of a stream, may take.
        retries: how often to resend a request while no server can be reached.
        num_threads: how many requests of `infer_future` and `infer_async` may be in flight.
        token: of a server that wants one, as `kindaware serve --public` does.

    Raises:
        ModelClientError: the URL is wrong, or tritonclient isn't installed. The client connects at the first
            request.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        version: str | int = "",
        timeout_seconds: float = 60.0,
        retries: int = 0,
        num_threads: int = 8,
        token: str | None = None,
    ) -> None:
        self._transport = Transport(url, timeout_seconds, token)
        self._model = model
        self._version = str(version)
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._num_threads = num_threads
        self._metadata: Metadata | None = None
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> ModelClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ModelClient {self._model!r} of {self._transport.scheme}://{self._transport.address}>"

    def close(self) -> None:
        """Close the connection after the requests in flight have finished."""
        if self._pool is not None:
            self._pool.shutdown()
        self._transport.close()

    @property
    def metadata(self) -> Metadata:
        """The model's inputs and outputs, as reported by the server.

        Raises:
            ModelClientError: the server can't be reached, or has no such model.
        """
        if self._metadata is None:
            self._metadata = self._retried(
                lambda: self._transport.metadata(self._model, self._version, self._timeout_seconds)
            )
        return self._metadata

    def infer(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        outputs: Sequence[str] | None = None,
        request_id: str = "",
        parameters: Mapping[str, Any] | None = None,
        sequence_id: int | str = 0,
        sequence_start: bool = False,
        sequence_end: bool = False,
        timeout_seconds: float | None = None,
        **named: Any,
    ) -> Arrays:
        """Send one request and wait for the answer.

        Args:
            inputs: values by input name.
            outputs: names of the outputs to request; None for all.
            request_id: appears in the server's log.
            parameters: bool, int and str by name, for the model to read.
            sequence_id: sequence the request belongs to, for a model with sequence batching.
            sequence_start: whether this is the first request of its sequence.
            sequence_end: whether this is the last request of its sequence.
            timeout_seconds: how long the answer may take; the client's timeout by default.
            named: more inputs, by name.

        Returns:
            New arrays by output name. BYTES outputs are arrays of `bytes`, BF16 outputs of float32.

        Raises:
            ModelClientError: the server can't be reached or rejects the request, or the inputs don't fit the
                model.
        """
        call, is_row = self._make_call(
            {**_mapping(inputs, self), **named},
            outputs=outputs,
            request_id=request_id,
            parameters=parameters,
            sequence_id=sequence_id,
            sequence_start=sequence_start,
            sequence_end=sequence_end,
            timeout_seconds=timeout_seconds,
        )
        found = self._send(call)
        return {name: array[0] for name, array in found.items()} if is_row else found

    def infer_batch(self, inputs: Mapping[str, Any] | None = None, **options: Any) -> Arrays:
        """Send one request whose inputs all have a batch dimension; otherwise like `infer`.

        Raises:
            ModelClientError: an input is a single row, or for the reasons `infer` gives.
        """
        names = {name for name, value in options.items() if name not in _OPTIONS}
        given = {**_mapping(inputs, self), **{name: options.pop(name) for name in names}}
        call, is_row = self._make_call(given, **options)
        if is_row:
            raise ModelClientError.of(
                f"infer_batch of model {self._model!r}",
                expected="inputs with a batch dimension",
                got=", ".join(f"{name} {list(array.shape[1:])}" for name, array in call.arrays.items()),
                remedy="add it with array[None], or call infer",
            )
        return self._send(call)

    def infer_future(self, inputs: Mapping[str, Any] | None = None, **options: Any) -> Future[Arrays]:
        """Send one request from a thread and return a future of what `infer` returns or raises."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._num_threads, "kindaware-client")
        return self._pool.submit(self.infer, inputs, **options)

    async def infer_async(self, inputs: Mapping[str, Any] | None = None, **options: Any) -> Arrays:
        """Send one request and await the answer; otherwise like `infer`."""
        return await asyncio.wrap_future(self.infer_future(inputs, **options))

    def stream(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        outputs: Sequence[str] | None = None,
        request_id: str = "",
        parameters: Mapping[str, Any] | None = None,
        sequence_id: int | str = 0,
        sequence_start: bool = False,
        sequence_end: bool = False,
        timeout_seconds: float | None = None,
        **named: Any,
    ) -> Iterator[Arrays]:
        """Send one request to a streaming model and yield the outputs of each answer as it arrives.

        Leaving the iteration early cancels the request. For the arguments see `infer`.

        Raises:
            ModelClientError: while iterating, if an answer is an error or the client uses HTTP, or for the
                reasons `infer` gives.
        """
        if self._transport.scheme != "grpc":
            raise ModelClientError.of(
                f"stream of model {self._model!r}",
                expected="a connection over gRPC",
                got="one over HTTP",
                remedy="pass the address of gRPC, usually port 8001",
            )
        call, is_row = self._make_call(
            {**_mapping(inputs, self), **named},
            outputs=outputs,
            request_id=request_id,
            parameters=parameters,
            sequence_id=sequence_id,
            sequence_start=sequence_start,
            sequence_end=sequence_end,
            timeout_seconds=timeout_seconds,
        )
        for found in self._transport.stream(self._model, self._version, call):
            yield {name: array[0] for name, array in found.items()} if is_row else found

    async def stream_async(
        self, inputs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncIterator[Arrays]:
        """Send one request to a streaming model and await each answer; otherwise like `stream`."""
        items = self.stream(inputs, **options)
        loop = asyncio.get_running_loop()
        try:
            while (item := await loop.run_in_executor(None, next, items, _END)) is not _END:
                yield item
        finally:
            await loop.run_in_executor(None, items.close)  # type: ignore[attr-defined]  # a generator

    def _make_call(
        self, inputs: Mapping[str, Any], *, timeout_seconds: float | None = None, **options: Any
    ) -> tuple[Call, bool]:
        timeout_seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        return Call.of(self.metadata, inputs, timeout_seconds=timeout_seconds, **options)

    def _send(self, call: Call) -> Arrays:
        found: Arrays = self._retried(lambda: self._transport.infer(self._model, self._version, call))
        return found

    def _retried(self, ask: Any) -> Any:
        """Retry while the server can't be reached; never resend a request that it may have seen."""
        for left in reversed(range(self._retries + 1)):
            try:
                return ask()
            except ModelClientError as error:
                if not left or error.was_sent or error.code == "CLIENT":
                    raise
                time.sleep(_PAUSE_SECONDS)
        raise AssertionError("the last try returns or raises")


_OPTIONS = frozenset(
    (
        "outputs",
        "request_id",
        "parameters",
        "sequence_id",
        "sequence_start",
        "sequence_end",
        "timeout_seconds",
    )
)
_PAUSE_SECONDS = 0.5


def _mapping(inputs: Any, client: ModelClient) -> Mapping[str, Any]:
    if inputs is None or isinstance(inputs, Mapping):
        return inputs or {}
    names = [one.name for one in client.metadata.inputs]
    raise ModelClientError.of(
        f"{client!r}",
        expected=f"values by the names of the model's inputs {names}",
        got=f"{type(inputs).__name__} without a name",
        remedy=f"write infer({names[0] if names else 'X'}=...)",
    )
