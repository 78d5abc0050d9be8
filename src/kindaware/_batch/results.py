"""The result of each request in a call of `execute`: its outputs, or its failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from logging import Logger

from kindaware._batch.request import Request
from kindaware._batch.request_info import RequestInfo
from kindaware._errors import OutputError, describe, format_traceback, message
from kindaware._tensors.bytes_arrays import Value

Tensors = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Failure:
    """The error that a request is answered with.

    Attributes:
        text: the message that the client receives.
        code: name of a Triton error code.
        info: sequence and flags of a request that could not be read, if the model has sequences.
    """

    text: str
    code: str
    info: RequestInfo | None = field(default=None, compare=False)


Result = Tensors | Failure

Split = Callable[[Tensors, Sequence[Request]], Sequence[Result]]
"""Splits a batch's outputs into the result of each of its requests, in order."""


def failure_of(error: Exception, model: str, request_id: str, stage: str) -> Failure:
    """Return the failure of a request for which a hook has raised."""
    text = message(
        f"model {model!r} request {request_id!r}",
        expected=f"{stage} to return",
        got=describe(error),
        remedy="see the traceback in the server's log",
    )
    # An OutputError is the library's own, and its text is meant for the client.
    return Failure(str(error) if isinstance(error, OutputError) else text, "INTERNAL")


def log_failure(logger: Logger, model: str, request_ids: Sequence[str], text: str) -> None:
    """Log a traceback, with the ids of the requests that failed because of it."""
    logger.error("model %r failed %d request(s), ids %s\n%s", model, len(request_ids), request_ids, text)


class Ledger:
    """Collects the results of one call's requests, by their position in the call.

    Args:
        arrivals: the requests as read; a `Failure` for one that could not be read.
        model: name of the model, for messages.

    Attributes:
        requests: the requests that go on to a forward, by position.
    """

    def __init__(self, arrivals: Sequence[Request | Failure], model: str) -> None:
        self.requests: dict[int, Request] = {}
        self._model = model
        self._arrivals = arrivals
        self._results: list[Result | None] = [one if isinstance(one, Failure) else None for one in arrivals]
        self._answers: list[tuple[Sequence[int], Tensors]] = []
        # Request ids by traceback, so that an error which failed several requests is logged once.
        self._to_log: dict[str, list[str]] = {}

    def answer(self, part: Sequence[int], outputs: Tensors) -> None:
        """Record the outputs of a batch, which are split into rows when all forwards of the call are done.

        Args:
            part: positions of the batch's requests, in the order of their rows.
            outputs: the batch's outputs.
        """
        self._answers.append((part, outputs))

    def forget_answers(self) -> None:
        """Drop all outputs recorded so far, because they lie on a device that has failed since."""
        self._answers.clear()

    def refuse(self, part: Sequence[int], text: str, code: str, *, cause: Exception | None = None) -> None:
        """Fail requests with a text and code of their own; logged only if there is a cause.

        Args:
            part: positions of the requests.
            text: the message that the client receives.
            code: name of a Triton error code.
            cause: an error whose traceback is logged; None if nothing is wrong with the model's code.
        """
        for position in part:
            self._results[position] = Failure(text, code)
            if cause is not None:
                self._to_log.setdefault(format_traceback(cause), []).append(self._id_of(position))

    def fail(self, part: Sequence[int], error: Exception, stage: str) -> None:
        """Fail requests because a hook raised; its traceback is logged once for all of them.

        Args:
            part: positions of the requests.
            error: what the hook raised.
            stage: name of the hook.
        """
        ids = self._to_log.setdefault(format_traceback(error), [])
        for position in part:
            ids.append(self._id_of(position))
            self._results[position] = failure_of(error, self._model, ids[-1], stage)

    def _id_of(self, position: int) -> str:
        arrival = self._arrivals[position]
        return arrival.id if isinstance(arrival, Request) else ""

    def log(self, logger: Logger) -> None:
        """Log each traceback once, with the ids of the requests that failed because of it."""
        for text, ids in self._to_log.items():
            log_failure(logger, self._model, ids, text)

    def results(self, split: Split, missing: Callable[[], Failure]) -> list[Result]:
        """Return the result of each request, in the order of the call.

        Args:
            split: splits a batch's outputs.
            missing: returns the failure of a request that was never run.
        """
        for part, outputs in self._answers:
            answers = split(outputs, [self.requests[position] for position in part])
            # One batch of all requests is in the order of the call already: the usual case, without a loop.
            if len(answers) == len(self._results):
                return list(answers)
            for position, answer in zip(part, answers, strict=True):
                self._results[position] = answer
        return [missing() if result is None else result for result in self._results]
