"""`stream`: items become responses, and whatever happens there is one FINAL."""

import asyncio
import contextlib
import re
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from core_kit import without_id
from step_kit import until
from stream_kit import BOTH, CONFIG, Async, Beat, Model, Plain, open_harness, seen

from kindaware import RequestError
from kindaware._batch.request_context import current_context
from kindaware._batch.results import Failure
from kindaware._triton.response_sender import ResponseSender


@pytest.mark.parametrize("model_class", BOTH)
@pytest.mark.parametrize("num_items", [0, 1, 5])
def test_stream_sends_each_item_and_one_final(model_class, num_items):
    with open_harness(model_class) as model:
        assert seen(model.stream(N=[[num_items]], empty_final=True)) == [*range(num_items), "END"]
        assert (model.instance.begun, model.instance.ended) == (1, 1)


@pytest.mark.parametrize("model_class", BOTH)
def test_stream_of_several_rows_gives_items_of_as_many(model_class):
    with open_harness(model_class) as model:
        results = list(model.stream(N=[[2], [9], [9]]))
        assert [result.outputs["I"].tolist() for result in results] == [[[0]] * 3, [[1]] * 3]


@pytest.mark.parametrize("form", [tuple, dict, torch.Tensor])
def test_stream_item_may_have_any_form_that_forward_may_return(form):
    forms = {tuple: lambda item: (item,), dict: lambda item: {"I": item}, torch.Tensor: lambda item: item}

    class Shaped(Model):
        def stream(self, N):
            yield forms[form](N.expand(3, 1)[:1])

    with open_harness(Shaped) as model:
        assert seen(model.stream(N=[[4]])) == [4]


def test_stream_without_a_batch_dimension_gives_items_as_declared():
    class Unbatched(Model):
        def stream(self, N):
            yield N + 1

    with open_harness(Unbatched, config={**CONFIG, "max_batch_size": 0}) as model:
        assert [result.outputs["I"].tolist() for result in model.stream(N=[3])] == [[4]]


def test_stream_async_requests_run_side_by_side():
    open_at_once = []
    latest = time.monotonic() + 20

    class Watched(Async):
        async def stream(self, N):
            async for item in super().stream(N):
                while self.begun < 5 and time.monotonic() < latest:
                    await asyncio.sleep(0.001)
                open_at_once.append(self.begun - self.ended)
                yield item

    with open_harness(Watched) as model:
        streams = [model.stream(N=[[20]]) for _ in range(5)]
        assert [seen(stream) for stream in streams] == [list(range(20))] * 5
    assert max(open_at_once) == 5


def test_stream_async_that_never_waits_leaves_others_their_turn():
    turns = []
    latest = time.monotonic() + 20

    class Busy(Model):
        async def stream(self, N):
            turns.append(int(N[0, 0]))
            while turns != [1, 2] and time.monotonic() < latest:
                yield N

    with open_harness(Busy) as model:
        first, second = model.stream(N=[[1]]), model.stream(N=[[2]])
        assert len(list(first)) > 0
        assert list(second) == []
    assert turns == [1, 2]
    assert time.monotonic() < latest


def test_stream_plain_requests_run_one_after_another():
    with open_harness(Plain) as model:
        streams = [model.stream(N=[[5]]) for _ in range(3)]
        assert (model.instance.begun, model.instance.ended) == (3, 3)
        assert [seen(stream) for stream in streams] == [list(range(5))] * 3


def test_stream_async_beyond_max_streams_waits_in_execute():
    most = []
    latest = time.monotonic() + 20

    class Few(Async):
        max_streams = 2

        async def stream(self, N):
            async for item in super().stream(N):
                while self.begun - self.ended < 2 and self.begun < 7 and time.monotonic() < latest:
                    await asyncio.sleep(0.001)
                most.append(self.begun - self.ended)
                yield item

    with open_harness(Few) as model:
        streams = [model.stream(N=[[10]]) for _ in range(7)]
        assert [seen(stream) for stream in streams] == [list(range(10))] * 7
    assert max(most) == 2


@pytest.mark.parametrize("model_class", BOTH)
def test_stream_cancelled_midway_closes_the_generator_and_ends_cancelled(model_class):
    with open_harness(model_class) as model:
        got = seen(model.stream(N=[[100_000]], cancelled=lambda num_sent: num_sent >= 3, empty_final=True))
        assert got[-2:] == ["CANCELLED", "END"]
        assert got[:-2] == list(range(len(got) - 2))
        assert 3 <= len(got) - 2 < 100_000
        assert (model.instance.begun, model.instance.ended) == (1, 1)
        assert "E " not in model.log_text()


@pytest.mark.parametrize("model_class", BOTH)
def test_stream_has_inference_mode_and_precision_at_each_step_and_in_finally(model_class):
    modes = []

    def note():
        modes.append((torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")))

    class Noting(model_class):
        precision = "bf16-mixed"

        @property
        def ended(self):
            note()
            return 0

        @ended.setter
        def ended(self, value):
            note()

    with open_harness(Noting) as model:
        modes.clear()
        stream = model.stream(N=[[100_000]], cancelled=lambda num_sent: num_sent >= 2)
        assert seen(stream)[-1] == "CANCELLED"
        note()
    assert modes[:-1]
    assert set(modes[:-1]) == {(True, True)}
    assert modes[-1] == (False, False)


@pytest.mark.parametrize("model_class", BOTH)
def test_stream_cancelled_before_it_begins_is_never_begun(model_class):
    with open_harness(model_class) as model:
        assert seen(model.stream(N=[[5]], cancelled=True, empty_final=True)) == ["CANCELLED"]
        assert model.instance.begun == 0


def test_stream_asks_about_cancellation_at_most_every_20_ms():
    asked = []
    with open_harness(Plain) as model:
        started = time.monotonic()
        stream = model.stream(N=[[500]], cancelled=lambda _: asked.append(1) is not None)
        assert len(list(stream)) == 500
        assert len(asked) <= 1 + (time.monotonic() - started) / 0.02


def raises(error):
    def stream(self, N):
        yield N
        raise error

    async def stream_async(self, N):
        yield N
        raise error

    return stream, stream_async


WRONG = {
    "refuses": (raises(RequestError("no more", code="UNSUPPORTED")), "UNSUPPORTED", "no more"),
    "raises": (raises(ValueError("broken")), "INTERNAL", "expected stream to return, got ValueError: broken"),
    "exits": (
        raises(SystemExit(3)),
        "INTERNAL",
        "expected stream to return, got ProcessExitError: SystemExit: 3",
    ),
    "cancels": (
        raises(asyncio.CancelledError()),
        "INTERNAL",
        "got ProcessExitError: CancelledError",
    ),
    "closes": (raises(GeneratorExit()), "INTERNAL", "got ProcessExitError: GeneratorExit"),
}


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("how", WRONG)
def test_stream_that_raises_ends_with_an_error(how, is_async):
    streams, code, text = WRONG[how]
    wrong = type("Wrong", (Model,), {"stream": streams[is_async]})
    with open_harness(wrong) as model:
        results = list(model.stream(N=[[7]], empty_final=True, request_id="r1"))
        assert seen(results) == [7, code, "END"]
        assert text in results[1].error.message()
        assert ("failed 1 request(s), ids ['r1']" in model.log_text()) == (how != "refuses")
        assert seen(model.stream(N=[[8]]))[0] == 8


ITEMS = {
    "name": (lambda N: {"J": N}, r"model 's' stream: expected outputs \['I'\], got outputs \['J'\]"),
    "type": (lambda N: N.long(), "output 'I': expected data type INT32, got INT64; convert it in stream"),
    "rows": (lambda N: torch.cat([N, N]), "expected 1 rows, as many as the batch has"),
    "shape": (lambda N: torch.cat([N, N], 1), r"expected shape \[B, 1\], got shape \[1, 2\]"),
    "nothing": (lambda N: None, "output 'I': expected a torch.Tensor, got NoneType"),
    "number": (lambda N: (N, 1), r"expected 1 outputs \['I'\], got 2 of type tuple"),
    "tensors": (lambda N: (N, N), r"got 2 of shapes \[\[1, 1\], \[1, 1\]\]; correct stream"),
}


@pytest.mark.parametrize("what", ITEMS)
def test_stream_wrong_item_ends_that_stream_only_and_closes_it(what):
    make, text = ITEMS[what]

    class Wrong(Async):
        async def stream(self, N):
            async for item in super().stream(N):
                yield make(item) if int(item[0, 0]) == 2 and len(N) == 1 else item

    with open_harness(Wrong) as model:
        wrong, right = model.stream(N=[[5]]), model.stream(N=[[5], [5]])
        results = list(wrong)
        assert seen(results) == [0, 1, "INTERNAL"]
        assert re.search(text, results[-1].error.message())
        assert len(list(right)) == 5


@pytest.mark.parametrize("is_async", [False, True])
def test_stream_that_yields_while_it_is_closed_still_ends_once(is_async):
    class Stubborn(Model):
        def stream(self, N):
            try:
                while True:
                    time.sleep(0.001)
                    yield N
            finally:
                yield N

    class StubbornAsync(Model):
        async def stream(self, N):
            try:
                while True:
                    await asyncio.sleep(0.001)
                    yield N
            finally:
                yield N

    with open_harness(StubbornAsync if is_async else Stubborn) as model:
        got = seen(model.stream(N=[[1]], cancelled=lambda num_sent: num_sent >= 1, empty_final=True))
        assert got[-2:] == ["CANCELLED", "END"]
        assert got.count("CANCELLED") == got.count("END") == 1
        assert "stream not closed" in model.log_text()
        assert "ignored GeneratorExit" in model.log_text()


def test_stream_task_that_exits_does_not_take_the_event_loop_with_it():
    class Exits(Model):
        async def stream(self, N):
            async def leave():
                sys.exit(4)

            task = asyncio.ensure_future(leave())
            await asyncio.sleep(0.01)
            yield N
            with pytest.raises(SystemExit):
                task.result()

    with open_harness(Exits) as model:
        assert seen(model.stream(N=[[1]])) == [1]
        assert seen(model.stream(N=[[2]])) == [2]
        assert "a task tried to end the process: SystemExit: 4" in model.log_text()


def test_stream_that_still_runs_when_the_model_ends_gets_unavailable():
    class Endless(Async):
        async def stream(self, N):
            self.begun += 1
            try:
                while True:
                    await asyncio.sleep(0.001)
                    yield N
            finally:
                self.ended += 1

    harness = open_harness(Endless)
    with harness as model:
        stream = model.stream(N=[[1]])
        assert seen([next(stream)]) == [1]
        instance, pending = model.instance, stream._pending
        thread = instance._kindaware_instance._streams._loop._thread
    assert not thread.is_alive()
    assert (instance.begun, instance.ended) == (1, 1)
    assert pending.is_done
    assert pending.answers[-2].failure.code == "UNAVAILABLE"


def test_stream_that_swallows_its_cancellation_takes_no_further_step_as_the_model_ends():
    waits = threading.Event()

    class Swallows(Model):
        async def stream(self, N):
            self.steps = 0
            while True:
                self.steps += 1
                with contextlib.suppress(asyncio.CancelledError):
                    waits.set()
                    await asyncio.sleep(3600)
                yield N

    with open_harness(Swallows) as model:
        stream = model.stream(N=[[1]])
        assert waits.wait(10)
        instance, pending = model.instance, stream._pending
    assert instance.steps == 1
    assert pending.answers[-2].failure.code == "UNAVAILABLE"


def test_stream_that_fails_as_the_model_ends_is_an_error_of_its_own():
    waits = threading.Event()

    class Fails(Model):
        async def stream(self, N):
            yield N
            try:
                waits.set()
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                raise ValueError("broken off") from None

    with open_harness(Fails) as model:
        stream = model.stream(N=[[1]])
        assert seen([next(stream)]) == [1]
        assert waits.wait(10)
        pending = stream._pending
    assert pending.answers[-2].failure.code == "INTERNAL"
    assert "ValueError: broken off" in model.log_text()


@pytest.mark.parametrize("model_class", BOTH)
def test_stream_of_a_request_that_can_not_be_read_is_refused_and_counted(model_class, monkeypatch):
    with open_harness(model_class) as model:
        instance = model.instance._kindaware_instance
        refused = Failure("unreadable", "INVALID_ARG")
        monkeypatch.setattr(
            type(instance._adapter.requests), "read", lambda self, requests: [refused] * len(requests)
        )
        assert seen(model.stream(N=[[3]], empty_final=True)) == ["INVALID_ARG"]
        assert dict(instance._counters.errors) == {"INVALID_ARG": 1}
        assert instance._counters.batches == model.instance.begun == 0


def test_stream_of_text_gets_an_array():
    class Lengths(Model):
        def stream(self, N):
            yield torch.tensor([[len(text)] for text in N.flatten()], dtype=torch.int32)

    config = {**CONFIG, "input": [{"name": "N", "data_type": "TYPE_STRING", "dims": [1]}]}
    with open_harness(Lengths, config=config) as model:
        [result] = model.stream(N=[["a"], ["three"]])
        assert result.outputs["I"].tolist() == [[1], [5]]


class Fails(Model):
    def stream(self, N):
        yield N
        raise ValueError("broken")


class AsyncFails(Model):
    async def stream(self, N):
        yield N
        raise ValueError("broken")


@pytest.mark.parametrize("model_class", [Fails, AsyncFails])
def test_stream_whose_error_can_not_be_logged_still_ends_with_an_error(model_class):
    def refuse(*_, **__):
        raise OSError("broken pipe")

    with open_harness(model_class) as model:
        streams = model.instance._kindaware_instance._streams
        streams._reporter = replace(streams._reporter, logger=SimpleNamespace(error=refuse))
        item, failed, end = model.stream(N=[[7]], empty_final=True)
        assert seen([item, failed, end]) == [7, "INTERNAL", "END"]
        assert "got one that could not be written to the server's log" in failed.error.message()


@pytest.mark.parametrize("is_async", [False, True])
def test_stream_that_raises_an_error_of_another_hook_is_named(is_async):
    error = ValueError("again")

    class Again(Model):
        def preprocess(self, inputs):
            if inputs["N"][0, 0] == 13:
                raise error
            return inputs

        def stream(self, N):
            raise error
            yield

    class AsyncAgain(Again):
        async def stream(self, N):
            raise error
            yield

    with open_harness(AsyncAgain if is_async else Again) as model:
        for value, hook in ((13, "preprocess"), (1, "stream")):
            [failed] = model.stream(N=[[value]])
            assert f"expected {hook} to return, got ValueError: again" in failed.error.message()


@pytest.mark.parametrize("model_class", BOTH)
def test_stream_hooks_run_within_a_beat(model_class):
    beat, beats = Beat(), []

    class Beating(model_class):
        def preprocess(self, inputs):
            beats.append(beat.depth)
            return inputs

        def postprocess(self, outputs):
            beats.append(beat.depth)
            return outputs

    with open_harness(Beating) as model:
        model.instance._kindaware_instance._streams._runner.beat = beat
        assert seen(model.stream(N=[[2]])) == [0, 1]
    assert [depth > 0 for depth in beats] == [True] * 3
    assert beat.depth == 0


@pytest.mark.parametrize("has_hook", [True, False])
def test_stages_of_a_stream_have_preprocess_where_the_class_does(has_hook):
    members = {"preprocess": lambda self, inputs: inputs} if has_hook else {}
    with open_harness(type("Hooked", (Plain,), members)) as model:
        stages = [one.name for one in model.instance._kindaware_instance.stages()]
    assert ("preprocess" in stages) == has_hook


@pytest.mark.parametrize(
    ("parameters", "options", "is_beside"),
    [
        ({}, {}, False),
        ({"items_per_response": "4"}, {}, True),
        (
            {"items_per_response": "4", "output_device": "instance"},
            {"kind": "GPU", "accelerator": "simulated"},
            False,
        ),
    ],
)
def test_stream_items_are_sent_by_another_thread_only_where_they_may_share_a_response(
    parameters, options, is_beside, monkeypatch
):
    whole, threads = ResponseSender.send, []

    def send(self, outputs, parameters):
        threads.append(threading.current_thread())
        whole(self, outputs, parameters)

    monkeypatch.setattr(ResponseSender, "send", send)
    parameters = {"kindaware.warmup": "off", **{f"kindaware.{name}": one for name, one in parameters.items()}}
    with open_harness(Plain, parameters=parameters, **options) as model:
        results = list(model.stream(N=[[3]]))
    assert [value for one in results for value in one.outputs["I"].flatten().tolist()] == [0, 1, 2]
    assert {one.name == "kindaware-send" for one in threads} == {is_beside}


@pytest.mark.parametrize("model_class", BOTH)
def test_stream_whose_final_can_not_be_sent_is_logged(model_class, monkeypatch):
    end = ResponseSender.end

    def end_and_fail(self, failure):
        end(self, failure)
        raise RuntimeError("no shared memory")

    with open_harness(model_class) as model:
        monkeypatch.setattr(ResponseSender, "end", end_and_fail)
        assert seen(model.stream(N=[[1]], empty_final=True)) == [0, "END"]
    assert "model 's': FINAL not sent: " in model.log_text()
    assert "RuntimeError: no shared memory" in model.log_text()


def test_stream_preprocess_and_postprocess_apply():
    class Hooked(Plain):
        def preprocess(self, inputs):
            if inputs["N"][0, 0] > 50:
                raise RequestError("too many")
            if inputs["N"][0, 0] < 0:
                raise ValueError("negative")
            return {"N": inputs["N"] + 1}

        def postprocess(self, outputs):
            return {"I": outputs["I"] * 10}

    with open_harness(Hooked) as model:
        assert seen(model.stream(N=[[2]])) == [0, 10, 20]
        assert seen(model.stream(N=[[51]], empty_final=True)) == ["INVALID_ARG"]
        [failed] = model.stream(N=[[-1]], request_id="r2", empty_final=True)
        assert without_id(failed.error.message()) == (
            "model 's' request 'r2': expected preprocess to return, got ValueError: negative; see error ID "
            "in the server's log"
        )


@pytest.mark.parametrize("model_class", BOTH)
def test_stream_postprocess_runs_for_its_request(model_class):
    class Asking(model_class):
        def postprocess(self, outputs):
            self.seen = current_context().request_id
            return outputs

    with open_harness(Asking) as model:
        assert seen(model.stream(N=[[1]], request_id="r7")) == [0]
        assert model.instance.seen == "r7"


@pytest.mark.parametrize("model_class", BOTH)
def test_request_that_could_not_be_read_has_its_error(model_class, monkeypatch):
    responses = SimpleNamespace(failures=[])
    responses.end = responses.failures.append
    with open_harness(model_class) as model:
        streams = model.instance._kindaware_instance._streams
        unread = Failure("unreadable", "INVALID_ARG")
        monkeypatch.setattr(streams.arrivals, "read", lambda *_: [(unread, responses)])
        streams.serve(None, [])
        until(lambda: responses.failures)
    assert responses.failures == [unread]


@pytest.mark.parametrize("model_class", BOTH)
@pytest.mark.parametrize("fails_at", [1, 2])
def test_stream_whose_question_for_cancellation_fails_goes_on(model_class, fails_at, monkeypatch):
    monkeypatch.setattr("kindaware._triton.response_sender.CANCEL_CHECK_SECONDS", 0.0)
    asked = []

    def fails_once(self):
        asked.append(self)
        if len(asked) == fails_at:
            raise RuntimeError("broken pipe")
        return False

    with open_harness(model_class) as model:
        senders = sys.modules["c_python_backend_utils"].InferenceResponseSender
        monkeypatch.setattr(senders, "is_cancelled", fails_once)
        assert seen(model.stream(N=[[3]])) == [0, 1, 2]
    assert len(asked) >= fails_at
