"""The responses to one request: FINAL once, nothing after it, and the forms that every client understands."""

import asyncio
import gc
import time
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from core_kit import REPORTER, make_spec, start
from host_kit import RecordingHost

from kindaware import KindAwareModel
from kindaware._batch.results import Failure
from kindaware._device.runtime import CpuRuntime
from kindaware._triton.adapter import TritonAdapter
from kindaware._triton.response import ResponseBuilder
from kindaware._triton.response_sender import CANCEL_CHECK_SECONDS, ResponseSender
from kindaware.testing.stand_in import InferenceRequest

FAILURE = Failure("broken", "UNSUPPORTED")


def open_responses(host, requested=("Y",)):
    builder = ResponseBuilder(host.pb_utils, make_spec(), CpuRuntime(), REPORTER)
    return ResponseSender(builder, host.request(requested=requested))


def shown(host):
    """What was sent: names of outputs, or the error's code, or None; and whether it was FINAL."""
    return [(_shown(answer), answer.is_final) for answer in host.sent]


def _shown(answer):
    if answer.is_flag_only:
        return None
    return answer.failure.code if answer.failure else [tensor.name for tensor in answer.outputs]


@pytest.fixture
def host():
    return RecordingHost(is_decoupled=True)


def test_end_sends_final_alone_and_once(host):
    responses = open_responses(host)
    responses.send({"Y": torch.zeros(1, 2)})
    responses.end()
    responses.end()
    responses.end(FAILURE)
    assert shown(host) == [(["Y"], False), (None, True)]


def test_end_with_an_error_before_any_item_is_one_response(host):
    open_responses(host).end(FAILURE)
    assert shown(host) == [("UNSUPPORTED", True)]


def test_end_with_an_error_after_items_sends_final_apart(host):
    responses = open_responses(host)
    responses.send({"Y": torch.zeros(1, 2)})
    responses.end(FAILURE)
    assert shown(host) == [(["Y"], False), ("UNSUPPORTED", False), (None, True)]


def test_end_whose_error_can_not_be_sent_sends_final_all_the_same(host):
    host.fails_at = 1
    responses = open_responses(host)
    responses.send({"Y": torch.zeros(1, 2)})
    with pytest.raises(RuntimeError, match="no shared memory"):
        responses.end(FAILURE)
    assert shown(host) == [(["Y"], False), (None, True)]


def test_send_gives_only_what_was_asked_for(host):
    open_responses(host, requested=()).send({"Y": torch.zeros(1, 2)})
    assert shown(host) == [([], False)]


def test_is_cancelled_is_asked_at_most_once_per_interval_and_never_after_final(host):
    responses = open_responses(host)
    assert [responses.is_cancelled() for _ in range(100)] == [False] * 100
    assert host.num_asked == 1
    time.sleep(CANCEL_CHECK_SECONDS)
    host.cancelled = True
    assert responses.is_cancelled()
    assert responses.is_cancelled()
    assert host.num_asked == 2
    responses.end()
    assert responses.is_cancelled()


def test_is_cancelled_is_asked_again_when_the_interval_is_over_and_no_more_once_it_is_so(host, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("kindaware._triton.response_sender.time.monotonic", lambda: now[0])
    responses = open_responses(host)
    assert not responses.is_cancelled()
    now[0] += CANCEL_CHECK_SECONDS
    host.cancelled = True
    assert responses.is_cancelled()
    now[0] += 3600
    assert responses.is_cancelled()
    assert host.num_asked == 2


def test_is_cancelled_after_final_is_not_asked(host):
    responses = open_responses(host)
    responses.end()
    assert not responses.is_cancelled()
    assert host.num_asked == 0


class Sender:
    """A response sender that would crash the server if it were asked once too often."""

    def __init__(self):
        self.num_asked = 0

    def is_cancelled(self):
        self.num_asked += 1
        return True

    def send(self, response=None, *, flags=0):
        """Drop the response."""


def open_sender(host):
    sender = Sender()
    request = SimpleNamespace(requested_output_names=set, get_response_sender=lambda: sender)
    return sender, ResponseSender(
        ResponseBuilder(host.pb_utils, make_spec(), CpuRuntime(), REPORTER), request
    )


def test_sender_is_asked_no_more_once_it_has_said_that_the_client_is_gone(host, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("kindaware._triton.response_sender.time.monotonic", lambda: now[0])
    sender, responses = open_sender(host)
    assert responses.is_cancelled()
    now[0] += 3600
    assert responses.is_cancelled()
    assert sender.num_asked == 1


@pytest.mark.parametrize("end", [ResponseSender.end, lambda responses: responses.answer(None)])
def test_sender_is_not_asked_behind_final(host, end):
    sender, responses = open_sender(host)
    end(responses)
    assert not responses.is_cancelled()
    assert sender.num_asked == 0


def test_responses_hold_the_sender_and_not_the_request(host):
    responses = open_responses(host)
    assert not any(isinstance(value, InferenceRequest) for value in vars(responses).values())


class Endless(KindAwareModel):
    """Streams until it is told to stop."""

    warmup = "off"

    def load(self):
        self.steps = 0
        self.stops = False

    async def stream(self, X):
        while not self.stops:
            await asyncio.sleep(0.001)
            self.steps += 1
            yield X


class Seen:
    """A request as the core holds it: the stand-in's sender keeps the request itself."""

    def __init__(self, request):
        self._request = request

    def __getattr__(self, name):
        return getattr(self._request, name)


def test_serve_keeps_no_request_whose_inputs_would_stay_in_shared_memory(host):
    model = start(Endless, model_transaction_policy={"decoupled": True})
    adapter = TritonAdapter.open(host.pb_utils, model.spec, CpuRuntime(), REPORTER)
    request = Seen(host.request(X=np.ones((1, 4), np.float32)))
    alive = weakref.ref(request)
    model._kindaware_instance._streams.serve(adapter, [request])
    del request
    while model.steps < 3:
        time.sleep(0.01)
    gc.collect()
    assert alive() is None
    model.stops = True
    model.finalize()
    assert host.sent[-1].is_final
