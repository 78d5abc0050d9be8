"""The argument `requests` of a hook: a `RequestInfo` for each request of the batch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from kindaware._batch.request import Request
from kindaware._batch.request_info import SEQUENCE_END, SEQUENCE_START, RequestInfo, begin_batch
from kindaware._config.model_spec import ModelSpec
from kindaware._hooks.hooks import Hooks


class HookRequests:
    """Builds the argument `requests` for the hooks that have such a parameter.

    Args:
        spec: spec of the model.
        hooks: the user's hooks.
    """

    def __init__(self, spec: ModelSpec, hooks: Hooks) -> None:
        self._sequences = spec.sequences
        self._named_by = hooks.with_requests
        # The first hook of a batch that sees the infos resets what a failed forward has left in them; a
        # stream is never run again.
        self._first_of_batch = None if spec.decoupled else next(iter(hooks.seeing_batch), None)

    def argument(self, hook: str, requests: Sequence[Request]) -> dict[str, list[RequestInfo]]:
        """Return the keyword argument `requests` of a hook; empty if the hook has no such parameter."""
        if hook not in self._named_by:
            return {}
        # A client's request has one info; a warm-up batch of sequences has one per row.
        infos = [[one.info] if one.info is not None else self._infos_of_warm_up(one) for one in requests]
        if hook == self._first_of_batch:
            for info in itertools.chain.from_iterable(infos):
                begin_batch(info)
        return {"requests": list(itertools.chain.from_iterable(infos))}

    def _infos_of_warm_up(self, request: Request) -> list[RequestInfo]:
        """Return infos for a request of the warm-up, which no client sent."""
        if self._sequences is None:
            return [RequestInfo(request.id, request.rows)]
        # A request of a sequence has one row, so a warm-up batch of n rows stands for n sequences.
        flags = SEQUENCE_START if self._sequences.is_iterative else SEQUENCE_START | SEQUENCE_END
        return [
            RequestInfo(request.id, request.rows and 1, correlation_id=f"warm-up {number}", flags=flags)
            for number in range(request.rows or 1)
        ]
