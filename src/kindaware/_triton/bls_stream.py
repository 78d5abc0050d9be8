"""`CallStream`: the responses to a call of another model, as they arrive."""

from __future__ import annotations

import asyncio
import heapq
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from kindaware._tensors.bytes_arrays import Value
from kindaware._triton.bls_adapter import CallAdapter

Outputs = dict[str, Value]
_END = object()


class CallStream(Iterator[Outputs]):
    """Iterator over the responses to a call, as they arrive; ends after the last, or after an error.

    If it is closed early, the called model is asked to stop, if the server supports that (from 25.04 on), and
    the remaining responses are read on a thread of their own: unread, they would stay in shared memory and
    keep the called model from being unloaded. Source: measured on tritonserver 2.51.0.

    Args:
        adapter: reads the responses.
        request: Triton's request, not yet executed.

    Raises:
        RequestError: on iterating, a response is an error, or the server refused the call.

    Sync:
        On iterating, until the next response has arrived, without the GIL, and its outputs are copied.
    """

    def __init__(self, adapter: CallAdapter, request: Any) -> None:
        self._adapter = adapter
        self._request = request
        self._responses: Any = None
        self._lock = threading.Lock()
        self._done = threading.Event()
        # Responses that threads are waiting for, or have taken, whose `__anext__` was cancelled: a heap.
        self._abandoned: list[tuple[int, Future[Any]]] = []
        self._num_taken = 0
        self._last_turn = threading.Event()
        self._last_turn.set()
        self._is_closed = False

    def __iter__(self) -> CallStream:
        return self

    def __next__(self) -> Outputs:
        # A response without outputs is the FINAL flag alone, and no item of the stream.
        while (response := self._abandoned_or_next()) is not _END:
            if outputs := self._read(response):
                return outputs
        raise StopIteration

    def __aiter__(self) -> CallStream:
        return self

    async def __anext__(self) -> Outputs:
        while (response := await self._next_async()) is not _END:
            if outputs := self._read(response):
                return outputs
        raise StopAsyncIteration

    async def _next_async(self) -> Any:
        """Return the next response; if it is cancelled, the next call returns the response."""
        number, taken = heapq.heappop(self._abandoned) if self._abandoned else self._take_on_thread()
        waiting = asyncio.wrap_future(taken)
        waiting.add_done_callback(_retrieve)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            # The thread goes on: nothing can call it back, and what it takes from Triton is taken.
            if not self._is_closed:
                heapq.heappush(self._abandoned, (number, taken))
            raise

    def _take_on_thread(self) -> tuple[int, Future[Any]]:
        """Return the future of the next response, and its number among those that were taken."""
        taken: Future[Any] = Future()
        before, after = self._last_turn, threading.Event()
        self._last_turn = after
        self._num_taken += 1

        def take() -> None:
            # In turn: threads get a lock in any order.
            before.wait()
            try:
                taken.set_result(self._next())
            except BaseException as error:
                taken.set_exception(error)
            finally:
                after.set()

        asyncio.get_running_loop().run_in_executor(None, take)
        return self._num_taken, taken

    def _abandoned_or_next(self) -> Any:
        return heapq.heappop(self._abandoned)[1].result() if self._abandoned else self._next()

    def __enter__(self) -> CallStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.close()

    def close(self) -> None:
        """Stop iterating, and discard the remaining responses. Sync: none, returns at once."""
        # Nothing to discard if the call was never made, or its responses are read to the end.
        is_open = not self._done.is_set() and self._responses is not None
        self._done.set()
        self._is_closed = True
        self._abandoned.clear()
        if not is_open:
            return
        cancel = getattr(self._responses, "cancel", None)
        if cancel is not None:
            cancel()
        threading.Thread(
            target=_drain, args=(self._responses, self._lock), name="kindaware-drain", daemon=True
        ).start()

    def _next(self) -> Any:
        """Return the next response; `_END` after the last."""
        if self._done.is_set():
            return _END
        # Two threads that wait for the next response of one call would wait forever.
        with self._lock:
            if self._responses is None:
                self._responses = self._request.exec(decoupled=True)
            response = next(self._responses, _END)
            # Closed while this thread was waiting.
            if self._done.is_set():
                _read_up(self._responses)
                return _END
            if response is _END:
                self._done.set()
            return response

    def _read(self, response: Any) -> Outputs:
        """Return the outputs of a response; the empty response that ends a stream has none."""
        try:
            return self._adapter.read_outputs(response)
        except BaseException:
            self.close()
            raise


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Look at a future's error, or asyncio would log it as never retrieved; the next call raises it."""
    if not future.cancelled():
        future.exception()


def _drain(responses: Any, lock: threading.Lock) -> None:
    with lock:
        _read_up(responses)


def _read_up(responses: Any) -> None:
    """Read and drop the remaining responses."""
    # Not a `for` loop, which starts over at the first response when there is none left.
    while next(responses, _END) is not _END:
        pass
