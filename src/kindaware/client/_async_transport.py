"""gRPC without threads: for a program that has many requests in flight on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from kindaware.client._errors import ModelClientError
from kindaware.client._metadata import Arrays, Metadata
from kindaware.client._transport import (
    Call,
    error_code,
    import_client,
    late,
    read_arrays,
    request_options,
    told,
)


class AsyncTransport:
    """A connection over gRPC that belongs to the running event loop.

    A task that is cancelled cancels its request.

    Args:
        address: host and port.

    Raises:
        ModelClientError: tritonclient is missing.
    """

    scheme = "grpc"

    def __init__(self, address: str) -> None:
        self.address = address
        self._module = import_client("grpc")
        self._client = import_client("grpc.aio").InferenceServerClient(address)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def metadata(self, model: str, version: str, timeout_seconds: float) -> Metadata:
        """Ask for a model's tensors.

        Raises:
            ModelClientError: the server can't be reached, or has no such model.
        """
        options = {"as_json": True, "client_timeout": timeout_seconds}
        with told(self, model):
            metadata = await self._client.get_model_metadata(model, version, **options)
            config = await self._client.get_model_config(model, version, **options)
        return Metadata.of(metadata, config.get("config", config))

    async def infer(self, model: str, version: str, call: Call) -> Arrays:
        """Send a request, and wait for its answer.

        Raises:
            ModelClientError: the server has refused it, or can't be reached, or took too long.
        """
        options = request_options(self._module, call)
        with told(self, model):
            result = await self._client.infer(
                model, model_version=version, client_timeout=call.timeout_seconds, **options
            )
            return read_arrays(result)

    async def stream(self, model: str, version: str, call: Call) -> AsyncIterator[Arrays]:
        """Send a request to a decoupled model, and yield its answers as they come.

        Raises:
            ModelClientError: an answer is an error, or none comes in time.
        """
        request = {"model_name": model, "model_version": version, **request_options(self._module, call)}

        async def requests() -> AsyncIterator[dict[str, Any]]:
            yield request

        # One request, so the server ends the stream after its last answer.
        answers = self._client.stream_infer(requests())
        try:
            while True:
                with told(self, model):
                    try:
                        result, error = await asyncio.wait_for(anext(answers), call.timeout_seconds)
                    except StopAsyncIteration:
                        return
                    except asyncio.TimeoutError:
                        raise late(model, call.timeout_seconds) from None
                if error is not None:
                    raise ModelClientError(error.message(), error_code(error) or "UNKNOWN")
                if result.get_response().outputs:
                    yield read_arrays(result)
        finally:
            answers.cancel()
