"""The answers to a call of another model, as they come."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from typing import Any

from kindaware._tensors.bytes_arrays import Value
from kindaware._triton.adapter import TritonAdapter

Outputs = dict[str, Value]
_END = object()


class CallStream(Iterator[Outputs]):
    """The answers to a call, as they come; ends after the last, or after an error.

    Left before its end, it asks the called model to stop where the server can do that (from 25.04 on), and
    reads what still comes on a thread of its own: what nobody reads would stay in shared memory, and keep the
    called model from being unloaded. Source: measured on tritonserver 2.51.0.

    Args:
        adapter: the way to the server.
        request: Triton's, not yet executed.
    """

    def __init__(self, adapter: TritonAdapter, request: Any) -> None:
        self._adapter = adapter
        self._request = request
        self._responses: Any = None
        self._lock = threading.Lock()
        self._done = threading.Event()

    def __iter__(self) -> CallStream:
        return self

    def __next__(self) -> Outputs:
        while (response := self._next()) is not _END:
            if outputs := self._read(response):
                return outputs
        raise StopIteration

    def __aiter__(self) -> CallStream:
        return self

    async def __anext__(self) -> Outputs:
        loop = asyncio.get_running_loop()
        while (response := await loop.run_in_executor(None, self._next)) is not _END:
            if outputs := self._read(response):
                return outputs
        raise StopAsyncIteration

    def __enter__(self) -> CallStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.close()

    def close(self) -> None:
        """Take no more answers; returns at once."""
        is_open = not self._done.is_set() and self._responses is not None
        self._done.set()
        if not is_open:
            return
        cancel = getattr(self._responses, "cancel", None)
        if cancel is not None:
            cancel()
        threading.Thread(
            target=_drain, args=(self._responses, self._lock), name="kindaware-drain", daemon=True
        ).start()

    def _next(self) -> Any:
        """Give the next response; two threads that wait for one would wait for ever."""
        if self._done.is_set():
            return _END
        with self._lock:
            if self._responses is None:
                self._responses = self._request.exec(decoupled=True)
            response = next(self._responses, _END)
            if self._done.is_set():  # closed meanwhile
                _read_up(self._responses)
                return _END
            if response is _END:
                self._done.set()
            return response

    def _read(self, response: Any) -> Outputs:
        """Read outputs; the empty response that ends a stream has none."""
        try:
            return self._adapter.read_outputs(response)
        except BaseException:
            self.close()
            raise


def _drain(responses: Any, lock: threading.Lock) -> None:
    with lock:
        _read_up(responses)


def _read_up(responses: Any) -> None:
    """Take what is left; a loop would begin at the first response again where none is."""
    while next(responses, _END) is not _END:
        pass
