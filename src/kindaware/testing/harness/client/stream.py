"""The responses of one request, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kindaware.testing.harness.client.result import Result, unpack
from kindaware.testing.harness.pending import Pending
from kindaware.testing.harness.process.instance import Instance
from kindaware.testing.stand_in import Answer


class Stream(Iterator[Result]):
    """The responses to one request, as they come.

    With `raise_errors` a failed response is raised; the next one can still be asked for.
    """

    def __init__(
        self,
        pending: Pending,
        instance: Instance | None,
        wait: Callable[[Instance, Pending, int | None], None],
        *,
        raise_errors: bool,
        empty_final: bool,
    ) -> None:
        self._pending = pending
        self._instance = instance
        self._wait = wait
        self._raise_errors = raise_errors
        self._empty_final = empty_final
        self._index = 0
        self._num_shown = 0

    def __next__(self) -> Result:
        while True:
            if self._instance is not None:
                self._wait(self._instance, self._pending, self._index + 1)
            if self._index >= len(self._pending.answers):
                raise StopIteration
            answer = self._pending.answers[self._index]
            self._index += 1
            if self._is_shown(answer):
                self._num_shown += 1
                return unpack(answer, self._pending.sent.request_id, raise_errors=self._raise_errors)

    def cancel(self) -> None:
        """Cancel the request from now on."""
        self._pending.cancel()

    def _is_shown(self, answer: Answer) -> bool:
        if self._instance is not None and not self._instance.is_decoupled and self._num_shown:
            return False  # one response is all that a client gets of such a model
        return not answer.is_flag_only or (self._empty_final and answer.is_final)
