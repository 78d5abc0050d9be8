"""What hooks have said in `response_parameters`, put into the responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kindaware._batch.counters import Counters
from kindaware._batch.request import Request
from kindaware._batch.results import Failure, Result
from kindaware._errors import RequestError, describe
from kindaware._triton.adapter import TritonAdapter


def with_parameters(
    responses: list[Any],
    results: Sequence[Result],
    arrivals: Sequence[Request | Failure],
    requests: Sequence[Any],
    adapter: TritonAdapter,
    counters: Counters,
) -> list[Any]:
    """Build those responses anew that are to have parameters; an error has none, and is counted.

    Returns:
        The list that was given. Where parameters can't be sent, the response is an error.
    """
    for place, (arrival, result) in enumerate(zip(arrivals, results, strict=True)):
        info = arrival.info if isinstance(arrival, Request) else None
        if info is None or not info.response_parameters or isinstance(result, Failure):
            continue
        try:
            requested = requests[place].requested_output_names()
            responses[place] = adapter.answer(result, requested, info.response_parameters)
            continue
        except RequestError as error:
            failure = Failure(str(error), error.code)
        except Exception as error:  # of pb_utils, for values of another type
            text = f"request {info.id!r} response_parameters: response not built, {describe(error)}"
            failure = Failure(text, "INTERNAL")
        responses[place] = adapter.refuse(failure)
        counters.add_errors([failure.code])
    return responses
