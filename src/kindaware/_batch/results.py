"""The result of each request in a call of `execute`: its outputs, or its failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from logging import Logger
from typing import TypeGuard

from kindaware._batch.request import Request
from kindaware._batch.request_info import RequestInfo
from kindaware._errors import (
    ERROR_CODES,
    CalledModelError,
    OutputError,
    RequestError,
    UnreadableError,
    UnsearchedError,
    attribute_of,
    message,
    text_of,
)
from kindaware._hooks.blame import hook_of, report
from kindaware._hooks.disclosure import disclose, new_error_id, without_paths
from kindaware._tensors.bytes_arrays import Value
from kindaware._tensors.rows import Output

Tensors = Mapping[str, Value]
Outputs = Mapping[str, Output]


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

Split = Callable[[Outputs, Sequence[Request]], Sequence[Result]]
"""Splits a batch's outputs into the result of each of its requests, in order."""

Join = Callable[[Sequence[Result], Request], Result]
"""Joins the results of a request's slices, in order, into that of the request."""


def refusal_of(error: RequestError) -> Failure:
    """Return the failure of a request that a hook refused; a code that Triton doesn't have is INTERNAL."""
    code = attribute_of(error, "code")
    # An object of another type, such as an array, may answer a comparison with anything.
    known = [one for one in ERROR_CODES if isinstance(code, str) and str.__eq__(one, code)]
    return Failure(text_of(error), known[0] if known else "INTERNAL")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Reporter:
    """Reports errors: to the log all that is known, and to clients what the setting `error_detail` allows.

    Attributes:
        model: name of the model.
        detail: the setting; see `disclose`.
        logger: gets the tracebacks.
    """

    model: str
    detail: str
    logger: Logger

    def refuses(self, error: BaseException) -> TypeGuard[RequestError]:
        """Whether an error is an answer for the client, which isn't logged.

        It is a `RequestError`, but with `id` not that of a called model that has failed.
        """
        if isinstance(error, CalledModelError) and self.detail == "id":
            return error.is_refusal
        return isinstance(error, RequestError)

    def refusal(self, error: RequestError) -> Failure:
        """Return the failure of a request for an error of which `refuses` is true."""
        refusal = refusal_of(error)
        if isinstance(error, CalledModelError) and self.detail != "full":
            return replace(refusal, text=without_paths(refusal.text))
        return refusal

    def fail(self, error: BaseException, request_ids: Sequence[str], hook: str) -> list[Failure]:
        """Log an error, and return the failure of each request that it has failed.

        Args:
            error: what was raised.
            request_ids: the clients' ids.
            hook: which is blamed where the error itself does not say.
        """
        code = "UNAVAILABLE" if isinstance(error, UnsearchedError) else "INTERNAL"
        error_id = self.log(report(error), request_ids, code=code)
        return [self.failure(error, error_id, one, hook) for one in request_ids]

    def failure(self, error: BaseException, error_id: str, request_id: str, hook: str) -> Failure:
        """Return the failure of a request for which a hook has raised, and the log has the error."""
        if isinstance(error, UnsearchedError):
            return self._unsearched(error, error_id, request_id)
        try:
            # The library's own text, which says what is wrong with the outputs and what to do.
            if isinstance(error, OutputError) and self.detail != "id":
                text = text_of(error)
                return Failure(text if self.detail == "full" else without_paths(text), "INTERNAL")
            blamed, got = hook_of(error, hook), disclose(error, self.detail)
        except BaseException as other:  # of an attribute of the error's
            blamed, got = hook, str(UnreadableError(other))
        text = message(
            f"model {self.model!r} request {request_id!r}",
            expected=f"{blamed} to return",
            got=got,
            remedy=f"see error {error_id} in the server's log",
        )
        return Failure(text, "INTERNAL")

    def _unsearched(self, error: UnsearchedError, error_id: str, request_id: str) -> Failure:
        """Return the failure of a request that may be innocent: nothing of the error, which is another's."""
        text = message(
            f"model {self.model!r} request {request_id!r}",
            expected=error.expected,
            got=error.got,
            remedy=f"send it again, or see error {error_id} in the server's log",
        )
        return Failure(text, "UNAVAILABLE")

    def log(
        self, report: str, request_ids: Sequence[str], error_id: str = "", *, code: str = "INTERNAL"
    ) -> str:
        """Log the report of an error, with the ids of the requests that failed because of it.

        Args:
            report: where the error was raised, what it says, and its traceback.
            request_ids: the clients' ids.
            error_id: the id of the error; empty for a new one.
            code: name of the Triton error code that the clients get.

        Returns:
            The id of the error.
        """
        error_id, ids = error_id or new_error_id(), list(request_ids)
        about = {"request_ids": ids, "code": code, "error_id": error_id}
        text = "model %r: error %s failed %d request(s), ids %s: %s"
        self.logger.error(text, self.model, error_id, len(ids), ids, report, extra=about)
        return error_id


@dataclass(slots=True, eq=False, repr=False)
class _Report:
    """An error that is to be logged.

    Attributes:
        error_id: its id.
        positions: those of the requests that it failed, in order.
    """

    error_id: str = field(default_factory=new_error_id)
    positions: dict[int, None] = field(default_factory=dict)


class Ledger:
    """Collects the results of one call's requests, by their position in the call.

    Args:
        arrivals: the requests as read; a `Failure` for one that could not be read.
        reporter: reports the errors of hooks.

    Attributes:
        requests: the requests that go on to a forward, by position; slices of one by positions of their own.
    """

    def __init__(self, arrivals: Sequence[Request | Failure], reporter: Reporter) -> None:
        self.requests: dict[int, Request] = {}
        self._reporter = reporter
        self._arrivals = arrivals
        self._results: list[Result | None] = [one if isinstance(one, Failure) else None for one in arrivals]
        self._answers: list[tuple[Sequence[int], Outputs]] = []
        # Of the requests that were cut, the positions of the slices, and of each slice, that of its request.
        self._slices: dict[int, range] = {}
        self._sliced: dict[int, int] = {}
        # By traceback, so that an error which failed several requests is logged once, under one id.
        self._to_log: dict[str, _Report] = {}

    def cut(self, position: int, max_rows: int) -> list[int]:
        """Cut a request that has more than so many rows into slices, and return their positions.

        Returns:
            Positions behind those of the call; the request's own if it is not cut.
        """
        request = self.requests[position]
        if (request.rows or 0) <= max_rows:
            return [position]
        slices = request.slices(max_rows)
        places = range(len(self._results), len(self._results) + len(slices))
        self._slices[position] = places
        self._sliced.update(dict.fromkeys(places, position))
        self._results += [None] * len(slices)
        self.requests.update(zip(places, slices, strict=True))
        return [*places]

    def whole(self, position: int) -> Request:
        """Return the client's request at a position, or of which the slice there is a part."""
        return self.requests[self._sliced.get(position, position)]

    def answer(self, part: Sequence[int], outputs: Outputs) -> None:
        """Record the outputs of a batch, which are split into rows when all forwards of the call are done.

        Args:
            part: positions of the batch's requests, in the order of their rows.
            outputs: the batch's outputs.
        """
        self._answers.append((part, outputs))

    def forget_answers(self) -> None:
        """Drop all outputs recorded so far, because they lie on a device that has failed since."""
        self._answers.clear()

    def refuse(self, part: Sequence[int], failure: Failure, *, cause: BaseException | None = None) -> None:
        """Fail requests with a failure of their own; logged only if there is a cause."""
        for position in part:
            self._results[position] = failure
            if cause is not None:
                self._note(report(cause), position)

    def fail(self, part: Sequence[int], error: BaseException, hook: str) -> None:
        """Fail requests because a hook raised; the traceback is logged once."""
        text = report(error)
        for position in part:
            request = self._note(text, position)
            request_id, error_id = self._id_of(request), self._to_log[text].error_id
            self._results[position] = self._reporter.failure(error, error_id, request_id, hook)

    def disclose(self, error: BaseException) -> str:
        """Return what clients may read of an error that is to be logged."""
        error_id = self._to_log.setdefault(report(error), _Report()).error_id
        return disclose(error, self._reporter.detail, error_id)

    def _note(self, text: str, position: int) -> int:
        """Note a traceback for the log, and return the position of the client's request that failed."""
        request = self._sliced.get(position, position)
        self._to_log.setdefault(text, _Report()).positions[request] = None
        return request

    def _id_of(self, position: int) -> str:
        arrival = self._arrivals[position]
        return arrival.id if isinstance(arrival, Request) else ""

    def log(self) -> None:
        """Log each report once, with the ids of the requests that failed because of it."""
        for text, one in self._to_log.items():
            if one.positions:
                failed = self._results[next(iter(one.positions))]
                code = failed.code if isinstance(failed, Failure) else "INTERNAL"
                ids = list(map(self._id_of, one.positions))
                self._reporter.log(text, ids, one.error_id, code=code)

    def results(self, split: Split, join: Join, missing: Callable[[], Failure]) -> list[Result]:
        """Return the result of each request.

        Args:
            split: splits a batch's outputs.
            join: joins the results of a request's slices.
            missing: returns the failure of a request that was never run.
        """
        for part, outputs in self._answers:
            answers = split(outputs, [self.requests[position] for position in part])
            # One batch of all requests is in the order of the call already: the usual case, without a loop.
            if len(answers) == len(self._results):
                return list(answers)
            for position, answer in zip(part, answers, strict=True):
                self._results[position] = answer
        results = [missing() if result is None else result for result in self._results]
        for position, places in self._slices.items():
            results[position] = join([results[place] for place in places], self.requests[position])
        return results[: len(self._arrivals)]
