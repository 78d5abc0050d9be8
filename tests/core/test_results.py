"""The result of each request of a call: its answer, a refusal, or a failure that is logged once."""

import logging
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from core_kit import REPORTER, make_request, without_id

from kindaware import RequestError
from kindaware._batch.results import Failure, Ledger, Reporter, refusal_of
from kindaware._errors import UnsearchedError
from kindaware._tensors.rows import split

UNREAD = Failure("unreadable", "INVALID_ARG")
NEVER_RUN = Failure("the device failed first", "UNAVAILABLE")


class Locked(dict):
    """A dict that gives nothing away."""

    def get(self, key, default=None):
        raise PermissionError(key)


class LockedError(Exception):
    """Its text can be read, and its attributes can't."""

    __dict__ = Locked()


class ArrayCodeError(RequestError):
    """A refusal whose code is something of the author's."""

    def __init__(self):
        super().__init__("odd code")
        self.code = np.array(["INTERNAL", "UNAVAILABLE"])


def open_ledger(*arrivals):
    ledger = Ledger(arrivals, REPORTER)
    ledger.requests = {place: one for place, one in enumerate(arrivals) if not isinstance(one, Failure)}
    return ledger


def results_of(ledger):
    """One number per request, or its failure."""
    results = ledger.results(
        lambda outputs, requests: split(outputs, [one.rows for one in requests]),
        lambda slices, request: pytest.fail("nothing was cut"),
        lambda: NEVER_RUN,
    )
    return [one if isinstance(one, Failure) else one["Y"].item() for one in results]


def answer(*values):
    return {"Y": torch.tensor(values).unsqueeze(1)}


def test_refusal_has_the_authors_text_and_code():
    assert refusal_of(RequestError("gone", code="NOT_FOUND")) == Failure("gone", "NOT_FOUND")


def test_refusal_with_a_code_of_another_type_is_internal():
    assert refusal_of(ArrayCodeError()) == Failure("odd code", "INTERNAL")


def test_failure_of_an_error_that_can_not_be_read_blames_the_hook_all_the_same():
    failure = REPORTER.failure(LockedError(), "5f0c91d2", "r", "forward")
    assert failure.code == "INTERNAL"
    assert failure.text.startswith(
        "model 'm' request 'r': expected forward to return, got an error that can't be read: looking at it "
        "raised PermissionError; "
    )


def test_results_are_in_the_order_of_the_call_whatever_the_order_of_batches():
    ledger = open_ledger(*(make_request(place, 1) for place in range(4)))
    ledger.answer([1, 3], answer(10, 30))
    ledger.answer([0], answer(0))
    ledger.refuse([2], UNREAD)
    assert results_of(ledger) == [0, 10, UNREAD, 30]


def test_request_that_could_not_be_read_keeps_its_failure():
    ledger = open_ledger(UNREAD, make_request("r", 1))
    ledger.answer([1], answer(5))
    assert results_of(ledger) == [UNREAD, 5]


def test_request_that_was_never_run_has_the_failure_of_those():
    assert results_of(open_ledger(UNREAD, make_request("r", 1))) == [UNREAD, NEVER_RUN]


def test_answers_that_are_forgotten_are_those_of_requests_that_were_never_run():
    ledger = open_ledger(make_request("r", 1))
    ledger.answer([0], answer(5))
    ledger.forget_answers()
    assert results_of(ledger) == [NEVER_RUN]


def test_error_is_logged_once_with_the_ids_of_all_requests_that_it_failed(caplog):
    ledger = open_ledger(UNREAD, make_request("a", 1), make_request("b", 1))
    error = ValueError("bad row")
    ledger.fail([1], error, "forward")
    ledger.fail([0, 2], error, "forward")
    ledger.log()
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert without_id(record.getMessage()).startswith(
        "model 'm': error ID failed 3 request(s), ids ['a', '', 'b']: "
    )


def test_refusal_is_logged_only_where_it_has_a_cause(caplog):
    ledger = open_ledger(make_request("a", 1), make_request("b", 1))
    ledger.refuse([0], UNREAD)
    ledger.log()
    assert caplog.records == []
    ledger.refuse([1], UNREAD, cause=ValueError("bad shape"))
    ledger.log()
    [record] = caplog.records
    assert without_id(record.getMessage()).startswith("model 'm': error ID failed 1 request(s), ids ['b']: ")
    assert "bad shape" in record.getMessage()


@pytest.mark.parametrize(
    ("error", "code"),
    [(ValueError("no"), "INTERNAL"), (UnsearchedError("step", 0.1, ValueError("no")), "UNAVAILABLE")],
)
def test_error_is_logged_with_the_code_that_its_requests_get(error, code):
    logger = Mock()
    failures = Reporter("m", "message", logger).fail(error, ["a", "b"], "step")
    assert [one.code for one in failures] == [code, code]
    assert logger.error.call_args.kwargs["extra"]["code"] == code


def test_error_that_clients_read_of_and_that_fails_no_request_is_not_logged(caplog):
    ledger = open_ledger(make_request("a", 1.0))
    ledger.disclose(ValueError("no"))
    ledger.log()
    assert caplog.records == []
