"""The result of each request in a call of `execute`: its outputs, or its failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from logging import Logger

from kindaware._batch.request import Request
from kindaware._batch.request_info import RequestInfo
from kindaware._errors import (
    ERROR_CODES,
    OutputError,
    RequestError,
    UnreadableError,
    attribute_of,
    describe,
    message,
    text_of,
)
from kindaware._hooks.blame import hook_of, report
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


def failure_of(error: BaseException, model: str, request_id: str, hook: str) -> Failure:
    """Return the failure of a request for which a hook has raised.

    Args:
        error: what was raised.
        model: the model's name.
        request_id: the client's.
        hook: which is blamed where the error itself does not say.
    """
    try:
        blamed, got = hook_of(error, hook), describe(error)
    except BaseException as other:  # of an attribute of the error's
        blamed, got = hook, str(UnreadableError(other))
    text = message(
        f"model {model!r} request {request_id!r}",
        expected=f"{blamed} to return",
        got=got,
        remedy="see the traceback in the server's log",
    )
    # An OutputError is the library's own, and its text is meant for the client.
    return Failure(text_of(error) if isinstance(error, OutputError) else text, "INTERNAL")


def log_failure(
    logger: Logger, model: str, request_ids: Sequence[str], report: str, *, code: str = "INTERNAL"
) -> None:
    """Log the report of an error, with the ids of the requests that failed because of it.

    Args:
        logger: of the instance.
        model: the model's name.
        request_ids: the clients'.
        report: where it was raised, what it says, and the traceback.
        code: name of the Triton error code that the clients get.
    """
    about = {"request_ids": request_ids, "code": code}
    text = "model %r failed %d request(s), ids %s: %s"
    logger.error(text, model, len(request_ids), request_ids, report, extra=about)


class Ledger:
    """Collects the results of one call's requests, by their position in the call.

    Args:
        arrivals: the requests as read; a `Failure` for one that could not be read.
        model: name of the model, for messages.

    Attributes:
        requests: the requests that go on to a forward, by position; slices of one by positions of their own.
    """

    def __init__(self, arrivals: Sequence[Request | Failure], model: str) -> None:
        self.requests: dict[int, Request] = {}
        self._model = model
        self._arrivals = arrivals
        self._results: list[Result | None] = [one if isinstance(one, Failure) else None for one in arrivals]
        self._answers: list[tuple[Sequence[int], Outputs]] = []
        # Of the requests that were cut, the positions of the slices, and of each slice, that of its request.
        self._slices: dict[int, range] = {}
        self._sliced: dict[int, int] = {}
        # Positions of requests by traceback, so that an error which failed several of them is logged once.
        self._to_log: dict[str, dict[int, None]] = {}

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
            self._results[position] = failure_of(error, self._model, self._id_of(request), hook)

    def _note(self, text: str, position: int) -> int:
        """Note a traceback for the log, and return the position of the client's request that failed."""
        request = self._sliced.get(position, position)
        self._to_log.setdefault(text, {})[request] = None
        return request

    def _id_of(self, position: int) -> str:
        arrival = self._arrivals[position]
        return arrival.id if isinstance(arrival, Request) else ""

    def log(self, logger: Logger) -> None:
        """Log each report once, with the ids of the requests that failed because of it."""
        for text, positions in self._to_log.items():
            failed = self._results[next(iter(positions))]
            code = failed.code if isinstance(failed, Failure) else "INTERNAL"
            log_failure(logger, self._model, list(map(self._id_of, positions)), text, code=code)

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
