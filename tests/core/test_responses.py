"""The responses to one request: FINAL once, nothing after it, and the forms that every client understands."""

import asyncio
import gc
import time
import weakref

import numpy as np
import pb_fakes
import pytest
import torch
from core_kit import make_spec, start

from kindaware import KindAwareModel
from kindaware._batch.results import Failure
from kindaware._device.runtime import CpuRuntime
from kindaware._triton.adapter import TritonAdapter
from kindaware._triton.response_sender import CANCEL_CHECK_SECONDS, ResponseSender

FAILURE = Failure("broken", "UNSUPPORTED")


class Sender:
    """Stands for `pb_utils.InferenceResponseSender`: keeps what is sent, refuses what the real one would."""

    def __init__(self, fails_at=None):
        self.sent, self.num_asked, self.cancelled, self.fails_at = [], 0, False, fails_at

    def send(self, response=None, flags=0):
        assert response is not None or flags == 1
        assert not self.is_closed, "Response sender has been closed."
        if len(self.sent) == self.fails_at:
            self.fails_at = None
            raise RuntimeError("no shared memory")
        self.sent.append((_show(response), flags))

    @property
    def is_closed(self):
        return any(flags for _, flags in self.sent)

    def is_cancelled(self):
        assert not self.is_closed, "the server would crash"
        self.num_asked += 1
        return self.cancelled


def _show(response):
    if response is None:
        return None
    if response.error is not None:
        return response.error.code.name
    return [tensor.name() for tensor in response.output_tensors]


class Request(pb_fakes.InferenceRequest):
    def __init__(self, sender, inputs=(), **options):
        super().__init__(inputs, **options)
        self.sender = sender

    def timeout(self):
        return 0

    def trace(self):
        return None

    def get_response_sender(self):
        return self.sender


def open_responses(sender, requested=("Y",)):
    adapter = TritonAdapter(pb_fakes.make_module(), make_spec(), CpuRuntime())
    return ResponseSender(adapter, Request(sender, requested=requested))


def test_end_sends_final_alone_and_once():
    sender = Sender()
    responses = open_responses(sender)
    responses.send({"Y": torch.zeros(1, 2)})
    responses.end()
    responses.end()
    responses.end(FAILURE)
    assert sender.sent == [(["Y"], 0), (None, 1)]


def test_end_with_an_error_before_any_item_is_one_response():
    sender = Sender()
    open_responses(sender).end(FAILURE)
    assert sender.sent == [("UNSUPPORTED", 1)]


def test_end_with_an_error_after_items_sends_final_apart():
    sender = Sender()
    responses = open_responses(sender)
    responses.send({"Y": torch.zeros(1, 2)})
    responses.end(FAILURE)
    assert sender.sent == [(["Y"], 0), ("UNSUPPORTED", 0), (None, 1)]


def test_end_whose_error_can_not_be_sent_sends_final_all_the_same():
    sender = Sender(fails_at=1)
    responses = open_responses(sender)
    responses.send({"Y": torch.zeros(1, 2)})
    with pytest.raises(RuntimeError, match="no shared memory"):
        responses.end(FAILURE)
    assert sender.sent == [(["Y"], 0), (None, 1)]


def test_send_gives_only_what_was_asked_for():
    sender = Sender()
    open_responses(sender, requested=()).send({"Y": torch.zeros(1, 2)})
    assert sender.sent == [([], 0)]


def test_is_cancelled_is_asked_at_most_once_per_interval_and_never_after_final():
    sender = Sender()
    responses = open_responses(sender)
    assert [responses.is_cancelled() for _ in range(100)] == [False] * 100
    assert sender.num_asked == 1
    time.sleep(CANCEL_CHECK_SECONDS)
    sender.cancelled = True
    assert responses.is_cancelled()
    assert responses.is_cancelled()
    assert sender.num_asked == 2
    responses.end()
    assert responses.is_cancelled()


def test_is_cancelled_is_asked_again_when_the_interval_is_over_and_no_more_once_it_is_so(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("kindaware._triton.response_sender.time.monotonic", lambda: now[0])
    sender = Sender()
    responses = open_responses(sender)
    assert not responses.is_cancelled()
    now[0] += CANCEL_CHECK_SECONDS
    sender.cancelled = True
    assert responses.is_cancelled()
    now[0] += 3600
    assert responses.is_cancelled()
    assert sender.num_asked == 2


def test_is_cancelled_after_final_is_not_asked():
    sender = Sender()
    responses = open_responses(sender)
    responses.end()
    assert not responses.is_cancelled()
    assert sender.num_asked == 0


def test_responses_hold_the_sender_and_not_the_request():
    responses = open_responses(Sender())
    assert not any(isinstance(value, Request) for value in vars(responses).values())


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


def test_serve_keeps_no_request_whose_inputs_would_stay_in_shared_memory():
    model = start(Endless, model_transaction_policy={"decoupled": True})
    sender = Sender()
    adapter = TritonAdapter(pb_fakes.make_module(), model.spec, CpuRuntime())
    request = Request(sender, inputs=[pb_fakes.Tensor("X", np.ones((1, 4), np.float32))])
    alive = weakref.ref(request)
    model._kindaware_instance._streams.serve(adapter, [request])
    del request
    while model.steps < 3:
        time.sleep(0.01)
    gc.collect()
    assert alive() is None
    model.stops = True
    model.finalize()
    assert sender.is_closed
