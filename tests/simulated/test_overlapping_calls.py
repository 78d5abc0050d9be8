"""Calls that overlap: one on the device while the next is copied in and the last is answered."""

import sys
import threading
import time

import numpy as np
import pytest
import torch
from simulated_kit import (
    Doubler,
    assert_answers,
    assert_clean,
    entries,
    make_config,
    serve,
    staging_of,
    tensor,
)

from kindaware import RequestError
from kindaware._device import staging as _staging
from kindaware._execute import overlapping_executor
from kindaware._triton.response_sender import ResponseSender
from kindaware.testing import ModelLoadError
from kindaware.testing.accelerator import SimulatedAccelerator
from kindaware.testing.harness.client.result import Result

KERNEL, COPY_IN, COPY_OUT = "aten::mul.Tensor", "copy to the device", "copy to the host"
LONG, SHORT = 0.15, 0.02


def overlapping(model=Doubler, /, **options):
    return serve(model, **{"overlap_calls": "true", "warmup": "off", **options})


def with_costs(**seconds):
    """Two GPUs on which kernels and copies take time."""
    costs = {KERNEL: LONG, COPY_IN: SHORT, COPY_OUT: SHORT, **seconds}
    return SimulatedAccelerator(2, cost=lambda name, num_bytes: costs.get(name, 0.0))


def send(harness, calls):
    """Pass one call after the other to `execute`, without waiting for answers in between."""
    return [harness.stream_batch(sent) for sent in calls]


def answers(streams):
    return [next(stream) for stream in streams]


def until(condition):
    latest = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < latest
        time.sleep(0.001)


def calls_of(num_calls, *rows, **options):
    return [entries(*rows, first=1 + 50 * number, **options) for number in range(num_calls)]


def busy(harness, name):
    return [one for one in harness.accelerator.history if one.name == name]


@pytest.fixture
def held(monkeypatch):
    """An event before which no call is waited for, and so none is answered."""
    event = threading.Event()
    whole = overlapping_executor.OverlappingExecutor._land

    def land(self, call):
        assert event.wait(20)
        whole(self, call)

    monkeypatch.setattr(overlapping_executor.OverlappingExecutor, "_land", land)
    yield event
    event.set()


def test_execute_returns_before_the_device_is_done_and_answers_follow(held):
    (sent,) = calls_of(1, 1, 2)
    with overlapping() as harness:
        (streams,) = send(harness, [sent])
        assert harness.accelerator.num_pending > 0
        assert not any(stream._pending.answers for stream in streams)
        held.set()
        assert_answers(answers(streams), sent)


def test_execute_waits_for_the_call_before(held):
    first, second = calls_of(2, 1)
    with overlapping() as harness:
        streams = send(harness, [first])
        later = threading.Thread(target=lambda: streams.extend(send(harness, [second])))
        later.start()
        later.join(0.3)
        assert later.is_alive()
        held.set()
        later.join(20)
        for sent, one in zip((first, second), streams, strict=True):
            assert_answers(answers(one), sent)


def test_next_call_is_queued_on_streams_of_its_own_before_the_last_is_answered(held):
    calls = calls_of(2, 2)
    with overlapping(accelerator=with_costs()) as harness:
        streams = []
        sending = threading.Thread(target=lambda: streams.extend(send(harness, calls)))
        sending.start()
        until(lambda: len(busy(harness, COPY_OUT)) == 2)
        queued = {name: {one.stream for one in busy(harness, name)} for name in (COPY_IN, KERNEL, COPY_OUT)}
        assert all(len(of_kind) == 1 for of_kind in queued.values())
        assert len(set.union(*queued.values())) == 3
        # A kernel begins when its own rows are there, and a copy out when its own kernel has ended.
        for kernel, copy_in, copy_out in zip(
            *(busy(harness, name) for name in (KERNEL, COPY_IN, COPY_OUT)), strict=True
        ):
            assert copy_in.end <= kernel.start
            assert kernel.end <= copy_out.start
        held.set()
        sending.join(20)
        for sent, of_call in zip(calls, streams, strict=True):
            assert_answers(answers(of_call), sent)
        assert harness.accelerator.violations == []


def test_without_the_setting_the_device_waits_between_two_calls():
    calls = calls_of(3, 2)
    with serve(warmup="off", accelerator=with_costs()) as harness:
        for sent in calls:
            assert_answers(harness.infer_batch(sent), sent)
        kernels = busy(harness, KERNEL)
        for copy in [*busy(harness, COPY_IN), *busy(harness, COPY_OUT)]:
            assert not any(copy.start < one.end and one.start < copy.end for one in kernels)


@pytest.mark.parametrize("options", [{}, {"output_device": "instance"}, {"pinned_limit_bytes": 0}])
def test_answers_are_those_of_a_forward_that_reuses_its_memory(options):
    class Reusing(Doubler):
        def load(self):
            self.memory = torch.empty(64, device=self.device)

        def forward(self, X):
            return self.memory[: X.numel()].view(X.shape).copy_(2 * X)

    calls = calls_of(5, 1, 2)
    with overlapping(Reusing, **options) as harness:
        for sent, streams in zip(calls, send(harness, calls), strict=True):
            assert_answers(answers(streams), sent)
        assert harness.accelerator.violations == []


def test_answers_of_graphs_are_those_of_their_requests():
    calls = calls_of(5, 1, 2)
    with overlapping(cuda_graphs="3,8") as harness:
        for sent, streams in zip(calls, send(harness, calls), strict=True):
            assert_answers(answers(streams), sent)
        assert harness.accelerator.violations == []


def test_inputs_that_a_forward_keeps_are_its_own():
    class Keeping(Doubler):
        def load(self):
            self.last = None

        def forward(self, X):
            before, self.last = self.last, X
            return 2 * X if before is None else 2 * X + 0 * before.sum()

    calls = calls_of(6, 3)
    with overlapping(Keeping) as harness:
        for sent, streams in zip(calls, send(harness, calls), strict=True):
            assert_answers(answers(streams), sent)
        assert harness.accelerator.violations == []


@pytest.mark.parametrize("device", ["cuda:1", "cuda:0"])
def test_inputs_on_a_gpu_are_read_before_execute_returns(held, device):
    calls = calls_of(4, 1, 2, input_device=device)
    calls += [entries(2, first=301, input_device=device)]  # a single request's tensor is not copied
    with overlapping(takes_gpu_inputs=True) as harness:
        streams = send(harness, calls[:1])
        held.set()
        streams += send(harness, calls[1:])
        for sent, of_call in zip(calls, streams, strict=True):
            assert_answers(answers(of_call), sent)
        assert harness.accelerator.violations == []
        assert staging_of(harness)._borrowed == []  # else it would grow for ever


def test_inputs_that_a_hook_computes_on_the_gpu_are_read_when_they_are_there():
    class Computing(Doubler):
        def preprocess(self, inputs):
            return {"X": inputs["X"].to(self.device) * 1}

    calls = calls_of(4, 1, 2)
    with overlapping(Computing, accelerator=with_costs(**{KERNEL: SHORT})) as harness:
        for sent, streams in zip(calls, send(harness, calls), strict=True):
            assert_answers(answers(streams), sent)
        assert harness.accelerator.violations == []


def test_request_that_is_cancelled_fails_alone():
    (sent,) = calls_of(1, 1, 1, 1)
    sent[0]["cancelled"] = True
    with overlapping(takes_gpu_inputs=True, cancellation="on") as harness:
        (streams,) = send(harness, [sent])
        first, *others = answers(streams)
        assert first.error.code().name == "CANCELLED"
        assert_answers(others, sent[1:])


class Picky(Doubler):
    """Raises for one row, refuses another."""

    def preprocess(self, inputs):
        if (inputs["X"] == 3).any():
            raise RequestError("refused")
        return inputs

    def forward(self, X):
        if (X == 2).any():
            raise ValueError("bad row")
        return 2 * X


def test_request_that_fails_fails_alone_among_calls_that_overlap():
    calls = [entries(1, 1, 1, 1, first=first) for first in (0, 10, 1, 20)]
    with overlapping(Picky) as harness:
        texts = []
        for sent, streams in zip(calls, send(harness, calls), strict=True):
            results = answers(streams)
            failed = [one.error.message() for one in results if one.error]
            texts.append([("refused" in one, "bad row" in one) for one in failed])
            good = [(one, entry) for one, entry in zip(results, sent, strict=True) if not one.error]
            assert_answers([one for one, _ in good], [entry for _, entry in good])
        refused, bad = (True, False), (False, True)
        assert texts == [[bad, refused], [], [bad, refused], []]


WIDE = make_config(input=[tensor("X", [2048])], output=[tensor("Y", [2048])])
ROW_BYTES = 2048 * 4


def test_memory_that_calls_before_hold_is_waited_for_before_a_batch_is_halved():
    class Counting(Doubler):
        def load(self):
            self.sizes = []

        def forward(self, X):
            self.sizes.append(len(X))
            return 2 * X

    # Room for the input and output of one call and the copy of the output, not of two.
    room = SimulatedAccelerator(2, memory_bytes=26 * ROW_BYTES)
    calls = calls_of(4, *[1] * 8, width=2048)
    with overlapping(Counting, config=WIDE, accelerator=room) as harness:
        for sent, streams in zip(calls, send(harness, calls), strict=True):
            assert_answers(answers(streams), sent)
        assert set(harness.instance.sizes) == {8}


def test_wait_for_memory_that_raises_leaves_the_batch_to_be_halved(monkeypatch):
    def make_room(self):
        raise RuntimeError("CUDA error: invalid argument")

    monkeypatch.setattr(_staging.OverlappingStaging, "make_room", make_room)
    room = SimulatedAccelerator(2, memory_bytes=13 * ROW_BYTES)
    (sent,) = calls_of(1, *[1] * 8, width=2048)
    with overlapping(config=WIDE, accelerator=room) as harness:
        (streams,) = send(harness, [sent])
        assert_answers(answers(streams), sent)


def test_device_that_fails_while_memory_is_waited_for_is_what_the_client_reads(monkeypatch):
    room = SimulatedAccelerator(2, memory_bytes=13 * ROW_BYTES)

    def make_room(self):
        room.lose(1)
        torch.cuda.synchronize(1)

    monkeypatch.setattr(_staging.OverlappingStaging, "make_room", make_room)
    (sent,) = calls_of(1, 8, width=2048)
    with overlapping(config=WIDE, accelerator=room) as harness:
        (streams,) = send(harness, [sent])
        assert [one.error.code().name for one in answers(streams)] == ["UNAVAILABLE"]


def test_batch_that_does_not_fit_is_halved():
    room = SimulatedAccelerator(2, memory_bytes=13 * ROW_BYTES)
    calls = calls_of(3, *[1] * 8, width=2048)
    with overlapping(config=WIDE, accelerator=room) as harness:
        for sent, streams in zip(calls, send(harness, calls), strict=True):
            assert_answers(answers(streams), sent)


def test_buffer_of_a_copy_that_was_queued_before_an_error_is_not_used_again_too_early(monkeypatch):
    monkeypatch.setattr(_staging, "PIECE_BYTES", 4096)
    calls = [entries(1, first=first, width=2048) for first in (1, 11, 21)]
    with overlapping(config=WIDE) as harness:
        copies = []

        def fault(number, name):
            copies.extend([number] * (name == COPY_IN))
            return RuntimeError("no copy") if name == COPY_IN and len(copies) == 2 else None

        harness.accelerator.fault = fault
        streams = send(harness, calls)
        assert "no copy" in answers(streams[0])[0].error.message()
        for sent, of_call in zip(calls[1:], streams[1:], strict=True):
            assert_answers(answers(of_call), sent)
        assert harness.accelerator.violations == []


def test_buffer_of_a_batch_that_raised_is_not_used_again_too_early():
    class RaisesFirst(Doubler):
        def load(self):
            self.num_calls = 0

        def forward(self, X):
            self.num_calls += 1
            if self.num_calls == 1:
                raise ValueError("the first")
            return 2 * X

    calls = calls_of(3, 2)
    with overlapping(RaisesFirst) as harness:
        streams = send(harness, calls)
        assert "the first" in answers(streams[0])[0].error.message()
        for sent, of_call in zip(calls[1:], streams[1:], strict=True):
            assert_answers(answers(of_call), sent)
        assert harness.accelerator.violations == []


def test_lost_device_answers_what_is_on_it_and_all_later_calls_with_unavailable(held):
    first, later = calls_of(2, 1, 2)
    with overlapping() as harness:
        (streams,) = send(harness, [first])
        harness.accelerator.lose(1)
        held.set()
        codes = [one.error.code().name for one in answers(streams)]
        codes += [one.error.code().name for one in harness.infer_batch(later)]
        assert codes == ["UNAVAILABLE"] * 4
        assert not harness.instance.is_ready()


def test_lost_device_changes_nothing_for_a_request_that_was_refused_before(held):
    sent = entries(1, 1, first=3)
    with overlapping(Picky) as harness:
        (streams,) = send(harness, [sent])
        harness.accelerator.lose(1)
        held.set()
        assert [one.error.code().name for one in answers(streams)] == ["INVALID_ARG", "UNAVAILABLE"]


def test_device_that_is_lost_before_its_outputs_are_sent_is_what_clients_read(monkeypatch):
    whole = overlapping_executor.OverlappingExecutor._land

    def land(self, call):
        whole(self, call)
        harness.accelerator.lose(1)

    monkeypatch.setattr(overlapping_executor.OverlappingExecutor, "_land", land)
    (sent,) = calls_of(1, 1, 2)
    with overlapping(output_device="instance") as harness:
        (streams,) = send(harness, [sent])
        assert [one.error.code().name for one in answers(streams)] == ["UNAVAILABLE"] * 2
        assert count_errors(harness) == {"UNAVAILABLE": 2}


def test_responses_that_can_not_be_built_are_errors_of_their_requests(monkeypatch):
    sent, later = calls_of(2, 1, 1)
    sent[0]["inputs"]["X"][:] = 2
    with overlapping(Picky) as harness:
        builder = harness.instance._kindaware_instance._executor._responses
        whole, failed = builder.respond, []

        def respond(senders, results):
            if not failed:
                failed.append(senders)
                raise SystemExit(3)
            return whole(senders, results)

        monkeypatch.setattr(builder, "respond", respond)
        first, second = send(harness, [sent, later])
        assert all("SystemExit" in one.error.message() for one in answers(first))
        assert_answers(answers(second), later)
        assert count_errors(harness) == {"INTERNAL": 2}


def count_errors(harness):
    """The errors of responses by code, when all calls are over."""
    instance = harness.instance._kindaware_instance
    instance._executor.close()
    return dict(instance._counters.errors)


def test_error_of_the_wait_fails_the_requests_of_its_call_alone():
    calls = [
        [{**one, "request_id": str(number)} for one in sent] for number, sent in enumerate(calls_of(3, 1))
    ]
    with overlapping() as harness:
        harness.infer_batch(calls[0])
        gpus, num_waits = harness.accelerator, []

        def fault(number, name):
            if name == "wait for an event" and not num_waits:
                num_waits.append(number)
                return RuntimeError("CUDA error: invalid argument")
            return None

        gpus.fault = fault
        results = [answers(streams)[0] for streams in send(harness, calls[1:])]
        assert "invalid argument" in results[0].error.message()
        assert_answers(results[1:], calls[2])
        assert harness.log_text().count("invalid argument") == 2  # the message, and its traceback
        assert "failed 1 request(s), ids ['1']" in harness.log_text()


def test_unload_comes_when_what_is_in_progress_is_answered(held):
    class Closing(Doubler):
        def unload(self):
            self.was_answered = [bool(stream._pending.answers) for stream in streams]

    (sent,) = calls_of(1, 1, 2)
    with overlapping(Closing) as harness:
        (streams,) = send(harness, [sent])
        model = harness.instance
        threading.Timer(0.2, held.set).start()
    assert model.was_answered == [True, True]
    assert_answers([Result.of(stream._pending.answers[0], "") for stream in streams], sent)


def test_response_that_can_not_be_sent_is_logged_and_the_others_are_sent(monkeypatch):
    whole = ResponseSender.answer
    failed = []

    def answer(self, response):
        if not failed:
            failed.append(self)
            raise RuntimeError("no shared memory")
        whole(self, response)

    (sent,) = calls_of(1, 1, 1)
    with overlapping() as harness:
        monkeypatch.setattr(ResponseSender, "answer", answer)
        ((_, second),) = send(harness, [sent])
        assert_answers(answers([second]), sent[1:])
        assert "response not sent, and its client waits: " in harness.log_text()
        assert "RuntimeError: no shared memory" in harness.log_text()
        whole(failed[0], harness.instance._kindaware_instance._executor._responses.answer({}, ()))


def test_parameters_and_errors_of_responses_are_sent():
    class Sets(Doubler):
        def postprocess(self, outputs, requests):
            for one in requests:
                one.response_parameters["id"] = one.id
            return outputs

    (sent,) = calls_of(1, 1, 1)
    named = [{**one, "request_id": str(number)} for number, one in enumerate(sent)]
    with overlapping(Sets, server_version="25.02") as harness:
        (streams,) = send(harness, [named])
        results = answers(streams)
        assert_answers(results, sent)
        assert [one.parameters["id"] for one in results] == ["0", "1"]


def test_metrics_count_calls_that_are_over():
    calls = calls_of(3, 1, 1)
    with overlapping(Picky, metrics="false") as harness:
        for streams in send(harness, [*calls, entries(1, first=2)]):
            answers(streams)
        instance = harness.instance._kindaware_instance
        instance._executor.close()
        counters = instance._counters
        # Row 2 of the first call is bad, and so is the only one of the last.
        assert (counters.batches, counters.requests, counters.rows) == (3, 5, 5)
        assert dict(counters.errors) == {"INTERNAL": 2}
        assert all(counters.seconds[stage] > 0 for stage in ("read", "copy_in", "copy_out", "respond"))
        assert counters.bytes_copied["in"] == counters.bytes_copied["out"]


def until_over(harness):
    calls = harness.instance._kindaware_instance._executor._calls
    until(lambda: all(one.flight.is_answered for one in calls))


def test_call_that_is_over_is_counted_by_the_next():
    with overlapping(Picky, metrics="false") as harness:
        for sent in (entries(1, first=2), entries(1, first=5)):
            (streams,) = send(harness, [sent])
            answers(streams)
            until_over(harness)
        assert dict(harness.instance._kindaware_instance._counters.errors) == {"INTERNAL": 1}


def test_call_whose_answers_can_not_be_sent_is_over_too(monkeypatch):
    lost, later = entries(1, first=2), entries(1, first=5)
    with overlapping(Picky, metrics="false") as harness:
        instance, kept = harness.instance._kindaware_instance, []
        builder = instance._executor._responses

        def respond(senders, results):
            kept.extend(senders)
            raise RuntimeError("no shared memory")

        with monkeypatch.context() as patched:
            patched.setattr(builder, "respond", respond)
            send(harness, [lost])
            until_over(harness)
        (streams,) = send(harness, [later])
        assert_answers(answers(streams), later)
        assert dict(instance._counters.errors) == {"INTERNAL": 1}
        assert "thread kindaware-answer: " in harness.log_text()
        kept[0].answer(builder.answer({}, ()))


def test_seconds_of_the_copy_out_have_the_wait_for_the_device():
    (sent,) = calls_of(1, 2)
    with overlapping(accelerator=with_costs(), metrics="false") as harness:
        (streams,) = send(harness, [sent])
        assert_answers(answers(streams), sent)
        instance = harness.instance._kindaware_instance
        instance._executor.close()
        assert instance._counters.seconds["copy_out"] > LONG / 2


def test_stages_of_a_call_have_one_that_responds():
    with overlapping() as harness:
        stages = list(harness.instance._kindaware_instance.stages())
    assert [one.method for one in stages if one.name == "respond"] == ["_send"]


def test_buffers_are_used_again_when_their_call_is_answered():
    calls = calls_of(40, 3)
    with overlapping() as harness:
        for sent in calls:
            (streams,) = send(harness, [sent])
            assert_answers(answers(streams), sent)
        assert staging_of(harness).statistics.pinned_bytes <= 3 * 2 * 4096


def test_calls_of_a_model_without_batches_overlap():
    config = make_config(max_batch_size=0, input=[tensor("X", [2, 4])], output=[tensor("Y", [2, 4])])
    calls = [entries(2, first=first) for first in (1, 11, 21)]
    with overlapping(config=config) as harness:
        for sent, streams in zip(calls, send(harness, calls), strict=True):
            assert_answers(answers(streams), sent)


def test_sequences_are_refused():
    config = make_config(sequence_batching={"direct": {}})
    refused = pytest.raises(ModelLoadError, match=r"overlap_calls'.*sequence_batching")
    with refused, overlapping(config=config):
        """Nothing is served."""


def test_setting_off_leaves_the_executor_as_it_was():
    with serve(warmup="off") as harness:
        executor = harness.instance._kindaware_instance._executor
        assert type(executor).__name__ == "Executor"
        sent = entries(1, 2)
        assert_answers(harness.infer_batch(sent), sent)
        assert_clean(harness)


def test_numbers_of_integers_come_back():
    config = make_config(input=[tensor("X", [2], "TYPE_INT64")], output=[tensor("Y", [2], "TYPE_INT64")])
    sent = [{"inputs": {"X": np.array([[3, 4]])}}]
    with overlapping(config=config) as harness:
        (streams,) = send(harness, [sent])
        assert answers(streams)[0].outputs["Y"].tolist() == [[6, 8]]


def test_each_request_is_told_of_when_its_response_is_sent(held):
    (sent,) = calls_of(1, 1, 2)
    told = []
    with overlapping() as harness:
        executor = harness.instance._kindaware_instance._executor
        executor.on_answer = lambda request, response: told.append(len(response.output_tensors()))
        (streams,) = send(harness, [sent])
        assert told == []
        held.set()
        assert_answers(answers(streams), sent)
        executor.close()
        assert told == [1, 1]


@pytest.fixture
def switch_interval():
    """Give back the interval at which threads take turns: it is the process's."""
    before = sys.getswitchinterval()
    yield before
    sys.setswitchinterval(before)


@pytest.mark.parametrize(
    ("options", "before", "after"),
    [({}, 0.005, 0.001), ({}, 0.0005, 0.0005), ({"overlap_calls": "false"}, 0.005, 0.005)],
    ids=["shorter", "short-already", "without"],
)
def test_threads_take_turns_more_often(switch_interval, options, before, after):
    sys.setswitchinterval(before)

    with overlapping(**options):
        assert sys.getswitchinterval() == pytest.approx(after)
