"""What a stream of `step` sends: its items in order, one end, and what is counted of them."""

import math
import threading
from types import SimpleNamespace

import pytest
import torch
from core_kit import make_plan

from kindaware import RequestError
from kindaware._batch.counters import Counters
from kindaware._batch.request import Request
from kindaware._batch.request_context import RequestContext
from kindaware._batch.results import Failure
from kindaware._execute import item_sender as _item_sender
from kindaware._execute.item_sender import Delivery, ItemSender
from kindaware._execute.open_stream import OpenStream

GONE = Failure("gone", "CANCELLED")


class Responses:
    """Stands for a `ResponseSender`; notes what it sends, and raises what it is told to."""

    def __init__(self, *, error=None, final_error=None, is_cancelled=False, wait=lambda: None):
        self.sent = []
        self.is_ended = False
        self._error = error
        self._final_error = final_error
        self._is_cancelled = is_cancelled
        self._wait = wait

    def send(self, outputs, parameters):
        self._wait()
        if self._error is not None:
            raise self._error
        self.sent.append((outputs, parameters))

    def end(self, failure):
        self.is_ended = True
        self.sent.append(failure)
        if self._final_error is not None:
            raise self._final_error

    def is_cancelled(self):
        return self._is_cancelled


class Halting(Responses):
    """Lets nothing be sent, of any stream, until it is told to."""

    def __init__(self):
        self.has_begun, self.may_go_on = threading.Event(), threading.Event()
        super().__init__(wait=self.halt)

    def halt(self):
        self.has_begun.set()
        assert self.may_go_on.wait(20)


def make_stream(responses, rows=3):
    return OpenStream(Request("r", {}, rows), responses)


@pytest.fixture
def counters():
    return Counters()


@pytest.fixture
def sender(counters):
    sender = ItemSender(make_plan(lambda X: X, step=len), counters)
    yield sender
    sender.close()


@pytest.fixture
def sharing(counters):
    """A sender that joins up to four items of a stream, if they wait."""
    sender = ItemSender(make_plan(lambda X: X, step=len, items_per_response=4), counters)
    yield sender
    sender.close()


def send_together(sender, deliveries):
    """Have all of these wait before the first of them is sent."""
    halting = Halting()
    sender.send([Delivery(make_stream(halting), {"Y": torch.zeros(1)})])
    assert halting.has_begun.wait(20)
    for one in deliveries:
        sender.send([one])
    halting.may_go_on.set()
    sender.close()


@pytest.mark.parametrize(("rows", "counted"), [(3, 3), (None, 1)])
def test_stream_that_ends_has_its_items_in_order_and_counts_as_answered(sender, counters, rows, counted):
    responses = Responses()
    stream = make_stream(responses, rows)
    sender.send([Delivery(stream, {"Y": 1}, {"n": 1})])
    sender.send([Delivery(stream, {"Y": 2})])
    sender.send([Delivery(stream, {"Y": 3}, is_last=True)])
    sender.close()
    assert responses.sent == [({"Y": 1}, {"n": 1}), ({"Y": 2}, None), ({"Y": 3}, None), None]
    assert (counters.batches, counters.requests, counters.rows) == (1, 1, counted)
    assert (counters.items, counters.first_items) == (3, 1)
    assert not counters.errors
    assert counters.seconds["respond"] > 0


def test_stream_that_fails_counts_as_an_error_and_not_as_answered(sender, counters):
    responses = Responses()
    sender.send([Delivery(make_stream(responses), is_last=True, failure=GONE)])
    sender.close()
    assert responses.sent == [GONE]
    assert dict(counters.errors) == {"CANCELLED": 1}
    assert (counters.batches, counters.items) == (0, 0)


def test_seconds_to_items_are_those_since_the_request_and_since_the_item_before(
    sender, counters, monkeypatch
):
    times = iter([12.0, 15.0, 19.0])
    monkeypatch.setattr(_item_sender, "time", SimpleNamespace(monotonic=lambda: next(times)))
    stream = make_stream(Responses())
    stream.arrived = 10.0
    for _ in range(3):
        sender.send([Delivery(stream, {"Y": 1})])
    sender.close()
    assert counters.seconds_to_items == {"first": 2.0, "next": 3.0 + 4.0}
    assert (counters.items, counters.first_items) == (3, 1)


@pytest.mark.parametrize(
    ("error", "code", "text", "num_records"),
    [
        (RequestError("no such parameter", code="UNSUPPORTED"), "UNSUPPORTED", "no such parameter", 0),
        (
            ValueError("broken"),
            "INTERNAL",
            "model 'm' request 'r': expected sending the response to return, got",
            1,
        ),
        (SystemExit(3), "INTERNAL", "model 'm' request 'r': expected sending the response to return, got", 1),
    ],
)
def test_stream_whose_item_can_not_be_sent_sends_no_other_and_ends_with_why(
    sender, counters, caplog, error, code, text, num_records
):
    responses, other = Responses(error=error), Responses()
    stream = make_stream(responses)
    sender.send([Delivery(stream, {"Y": 1}), Delivery(make_stream(other), {"Y": 2})])
    sender.send([])
    sender.close()
    assert stream.unsent.code == code
    assert stream.unsent.text.startswith(text)
    assert other.sent == [({"Y": 2}, None)]
    assert len(caplog.records) == num_records
    assert all("failed 1 request(s), ids ['r']" in message for message in caplog.messages)
    assert counters.items == 1


def test_stream_with_an_item_that_was_not_sent_ends_with_that_error_and_no_later_item(sender, counters):
    responses = Responses(error=RequestError("no such parameter"))
    stream = make_stream(responses)
    sender.send([Delivery(stream, {"Y": 1})])
    sender.send([Delivery(stream, {"Y": 2}, is_last=True, failure=GONE)])
    sender.close()
    assert responses.sent == [Failure("no such parameter", "INVALID_ARG")]
    assert dict(counters.errors) == {"INVALID_ARG": 1}
    assert counters.batches == 0


def test_item_after_one_that_was_not_sent_is_not_tried(sender):
    asked = []
    responses = Responses(error=RequestError("no such parameter"), wait=lambda: asked.append(1))
    stream = make_stream(responses)
    for _ in range(2):
        sender.send([Delivery(stream, {"Y": 1})])
    sender.close()
    assert asked == [1]


def test_item_of_a_stream_that_has_ended_is_not_sent(sender):
    responses = Responses()
    stream = make_stream(responses)
    sender.send([Delivery(stream, is_last=True)])
    sender.send([Delivery(stream, {"Y": 1})])
    sender.close()
    assert responses.sent == [None]


@pytest.mark.parametrize("late", [{"outputs": {"Y": torch.ones(1)}}, {"is_last": True}])
@pytest.mark.parametrize("failure", [GONE, None])
def test_what_a_hook_returns_after_its_stream_has_ended_changes_nothing(sharing, counters, failure, late):
    responses = Responses()
    stream = make_stream(responses)
    send_together(sharing, [Delivery(stream, is_last=True, failure=failure), Delivery(stream, **late)])
    assert responses.sent == [failure]
    assert (counters.batches, dict(counters.errors)) == ((0, {"CANCELLED": 1}) if failure else (1, {}))


def test_items_that_wait_are_joined_and_the_end_behind_them_keeps_its_error(sharing, counters):
    responses = Responses()
    stream = make_stream(responses)
    items = [Delivery(stream, {"Y": torch.tensor([n])}) for n in (1, 2, 3)]
    send_together(sharing, [*items, Delivery(stream, is_last=True, failure=GONE)])
    (outputs, _), end = responses.sent
    assert (outputs["Y"].tolist(), end) == ([1, 2, 3], GONE)
    assert (counters.items, dict(counters.errors)) == (4, {"CANCELLED": 1})


def test_end_that_can_not_be_sent_is_logged_and_holds_up_no_other(sender, caplog):
    lost, other = Responses(final_error=RuntimeError("no server")), Responses()
    sender.send([Delivery(make_stream(one), is_last=True) for one in (lost, other)])
    sender.close()
    assert other.sent == [None]
    [message] = caplog.messages
    assert message.startswith("model 'm': FINAL not sent: ")
    assert "RuntimeError: no server" in message


def test_request_that_is_refused_is_answered_and_counted(sender, counters):
    responses = Responses()
    sender.refuse(responses, GONE)
    sender.close()
    assert responses.sent == [GONE]
    assert dict(counters.errors) == {"CANCELLED": 1}


def test_streams_whose_clients_have_gone_are_marked(sender):
    streams = [make_stream(Responses(is_cancelled=gone)) for gone in (True, False)]
    sender.watch(streams)
    sender.close()
    assert [one.is_gone for one in streams] == [True, False]


def test_send_waits_while_two_calls_do_and_not_for_nothing(sender):
    may_go_on = threading.Event()
    stream = make_stream(Responses(wait=lambda: may_go_on.wait(20)))
    begun = [Delivery(stream, {"Y": 1})]
    for _ in range(3):  # one is being sent, and two wait
        sender.send(begun)
    nothing, more = (threading.Thread(target=sender.send, args=[what], daemon=True) for what in ([], begun))
    nothing.start()
    nothing.join(10)
    more.start()
    more.join(0.2)
    assert (nothing.is_alive(), more.is_alive()) == (False, True)
    may_go_on.set()
    more.join(10)
    assert not more.is_alive()


def test_deadline_is_that_of_the_clients_timeout():
    limited = Request(RequestContext("r", None, 17.5), {}, 1)
    assert OpenStream(limited, None).deadline == 17.5
    assert OpenStream(Request("warm-up", {}, 1), None).deadline == math.inf
