"""`items_per_response`: items of a stream that wait to be sent share a response, in order."""

import threading
import time

import pytest
import torch
from step_kit import CONFIG, InPlace, Values, open_harness, until
from stream_kit import CONFIG as STREAM_CONFIG
from stream_kit import Async, Plain

from kindaware import Done, KindAwareModel, Next, RequestError
from kindaware._execute.step_runner import StepRunner
from kindaware._triton.response_sender import ResponseSender
from kindaware.testing import ModelLoadError

SHARED = {"kindaware.items_per_response": "4", "kindaware.warmup": "off"}


@pytest.fixture
def gate(monkeypatch):
    """Holds back whatever is sent until it is set, the first item alone."""
    gate, has_come, steps = threading.Event(), threading.Event(), []
    send_one, step_all = ResponseSender.send, StepRunner.step

    def send(self, outputs, parameters=None):
        has_come.set()
        assert gate.wait(20)
        send_one(self, outputs, parameters)

    def step(self, states, requests):
        steps.append(len(states))
        assert len(steps) < 2 or has_come.wait(20)
        return step_all(self, states, requests)

    monkeypatch.setattr(ResponseSender, "send", send)
    monkeypatch.setattr(StepRunner, "step", step)
    yield gate
    gate.set()


def until_waiting(model, num_steps):
    """Wait until what so many steps send waits behind the first item."""
    waiting = model.instance._kindaware_instance._steps._sender._steps
    until(lambda: len(waiting) >= num_steps)


def items_of(stream):
    return [one.outputs["I"].tolist() for one in stream]


def flat(responses):
    return [value for rows in responses for (value,) in rows]


@pytest.mark.parametrize("model_class", [Values, InPlace])
def test_items_that_wait_share_a_response_up_to_the_limit(gate, model_class):
    with open_harness(model_class, parameters=SHARED) as model:
        stream = model.stream(N=[[9]], empty_final=True)
        # One is being sent, and as many steps wait as may share a response; the next one waits for room.
        until_waiting(model, 4)
        gate.set()
        *responses, end = list(stream)
    assert flat([one.outputs["I"].tolist() for one in responses]) == list(range(9))
    assert [len(one.outputs["I"]) for one in responses][:2] == [1, 4]
    assert not end.outputs


def test_item_never_waits_for_one_that_is_still_to_be_computed():
    go_on = threading.Event()

    class Halting(InPlace):
        def step(self, states):
            if len(self.sizes) == 2:
                assert go_on.wait(20)
            return super().step(states)

    with open_harness(Halting, parameters=SHARED) as model:
        stream = model.stream(N=[[4]])
        came = []
        while len(came) < 2:
            came += flat([next(stream).outputs["I"].tolist()])
        assert came == [0, 1]
        go_on.set()
        assert flat(items_of(stream)) == [2, 3]


def test_streams_keep_their_own_items(gate):
    with open_harness(Values, parameters=SHARED) as model:
        streams = [model.stream(N=[[20 + n]]) for n in range(3)]
        until(lambda: len(model.instance.sizes) >= 5)
        gate.set()
        assert [flat(items_of(stream)) for stream in streams] == [list(range(20 + n)) for n in range(3)]


def test_one_item_per_response_is_the_default(gate):
    with open_harness(Values) as model:
        stream = model.stream(N=[[6]])
        until(lambda: len(model.instance.sizes) >= 3)
        gate.set()
        assert [len(one) for one in items_of(stream)] == [1] * 6


def test_items_of_several_rows_are_joined_row_after_row(gate):
    class Rows(InPlace):
        def result(self, state):
            item = super().result(state)
            return item if isinstance(item, Done) else torch.cat([item, item + 100])

    with open_harness(Rows, parameters=SHARED) as model:
        stream = model.stream(N=[[3], [3]])
        until_waiting(model, 2)
        gate.set()
        assert items_of(stream) == [[[0], [100]], [[1], [101], [2], [102]]]


class Growing(KindAwareModel):
    """Items of one, one, two and two elements."""

    def load(self):
        self.num_steps = 0

    def begin(self, N):
        return (0,)

    def step(self, states):
        self.num_steps += 1
        return [self.result(n) for (n,) in states]

    def result(self, n):
        item = torch.full((1, 1 + n // 2), n, dtype=torch.int32)
        return Next((n + 1,), item) if n < 3 else Done(item)


def test_items_of_different_size_get_responses_of_their_own(gate):
    config = {**STREAM_CONFIG, "output": [{"name": "I", "data_type": "TYPE_INT32", "dims": [-1]}]}
    with open_harness(Growing, config=config, parameters=SHARED) as model:
        stream = model.stream(N=[[1]])
        until_waiting(model, 3)
        gate.set()
        assert items_of(stream) == [[[0]], [[1]], [[2, 2], [3, 3]]]


def test_text_is_joined_too(gate):
    class Speaking(Growing):
        def result(self, n):
            item = [[f"word {n}"]]
            return Next((n + 1,), item) if n < 3 else Done(item)

    config = {**STREAM_CONFIG, "output": [{"name": "I", "data_type": "TYPE_STRING", "dims": [1]}]}
    with open_harness(Speaking, config=config, parameters=SHARED) as model:
        stream = model.stream(N=[[1]])
        until_waiting(model, 3)
        gate.set()
        assert items_of(stream) == [[[b"word 0"]], [[b"word 1"], [b"word 2"], [b"word 3"]]]


def test_error_comes_after_the_items_before_it(gate):
    class Failing(Values):
        def result(self, state):
            if state.next == 3:
                raise ValueError("three")
            return super().result(state)

    with open_harness(Failing, parameters=SHARED) as model:
        stream = model.stream(N=[[9]])
        until(lambda: len(model.instance.sizes) >= 4)
        gate.set()
        *responses, last = list(stream)
        assert flat([one.outputs["I"].tolist() for one in responses]) == [0, 1, 2]
        assert "three" in last.error.message()


def test_items_with_different_parameters_get_responses_of_their_own(gate):
    class Sets(InPlace):
        def step(self, states, requests):
            for state, request in zip(states, requests, strict=True):
                request.response_parameters["half"] = state.next // 2
            return super().step(states)

    with open_harness(Sets, parameters=SHARED, server_version="25.02") as model:
        stream = model.stream(N=[[5]])
        until_waiting(model, 4)
        gate.set()
        found = [(one.outputs["I"].tolist(), one.parameters) for one in stream]
    assert [rows for rows, _ in found] == [[[0]], [[1]], [[2], [3]], [[4]]]
    assert [parameters["half"] for _, parameters in found] == [0, 0, 1, 2]


def test_metrics_count_items_and_not_responses(gate):
    with open_harness(Values, parameters=SHARED) as model:
        stream = model.stream(N=[[9]])
        until(lambda: len(model.instance.sizes) >= 5)
        gate.set()
        responses = list(stream)
        counters = model.instance._kindaware_instance._counters
        until(lambda: counters.items == 9)
        assert counters.first_items == 1
        assert len(responses) < 9


@pytest.mark.parametrize("model_class", [Plain, Async])
def test_items_of_a_generator_share_responses_too(gate, model_class):
    class Reusing(model_class):
        def postprocess(self, outputs):
            self.memory = getattr(self, "memory", torch.empty(1, 1, dtype=torch.int32))
            return {"I": self.memory.copy_(outputs["I"])}

    with open_harness(Reusing, parameters=SHARED) as model:
        streams = []
        opening = threading.Thread(target=lambda: streams.append(model.stream(N=[[9]], empty_final=True)))
        opening.start()
        time.sleep(0.3)
        gate.set()
        opening.join(20)
        *responses, end = list(streams[0])
    rows = [one.outputs["I"].tolist() for one in responses]
    assert flat(rows) == list(range(9))
    assert 1 < max(map(len, rows)) <= 4
    assert not end.outputs


@pytest.mark.parametrize("model_class", [Plain, Async])
def test_generator_that_raises_ends_with_its_error_behind_its_items(gate, model_class):
    class Failing(model_class):
        def postprocess(self, outputs):
            if outputs["I"].item() == 3:
                raise ValueError("three")
            return outputs

    gate.set()
    with open_harness(Failing, parameters=SHARED) as model:
        *responses, last = list(model.stream(N=[[9]]))
        assert flat([one.outputs["I"].tolist() for one in responses]) == [0, 1, 2]
        assert "three" in last.error.message()
        counters = model.instance._kindaware_instance._counters
        until(lambda: counters.errors["INTERNAL"] == 1)
        assert (counters.items, counters.batches) == (0, 0)


@pytest.mark.parametrize("model_class", [Plain, Async])
def test_request_that_preprocess_refuses_is_answered_though_its_stream_never_began(model_class):
    class Refusing(model_class):
        def preprocess(self, inputs):
            raise RequestError("not this one")

    with open_harness(Refusing, parameters=SHARED) as model:
        [refused] = model.stream(N=[[9]])
        assert refused.error.message() == "not this one"


NOT_BATCHED = {**CONFIG, "max_batch_size": 0}


def test_model_without_batches_joins_along_the_first_dimension(gate):
    class Single(InPlace):
        def begin(self, N):
            return super().begin(N[None])

        def result(self, state):
            item = super().result(state)
            return item if isinstance(item, Done) else item[0]

    with open_harness(Single, config=NOT_BATCHED, parameters=SHARED) as model:
        stream = model.stream(N=[3])
        until_waiting(model, 2)
        gate.set()
        assert items_of(stream) == [[0], [1, 2]]


@pytest.mark.parametrize("dims", [[-1], [-1, 2]])
def test_outputs_without_a_first_dimension_of_fixed_size_are_refused(dims):
    config = {**NOT_BATCHED, "output": [{"name": "I", "data_type": "TYPE_INT32", "dims": dims}]}
    refused = pytest.raises(ModelLoadError, match=r"items_per_response'.*a first dimension of fixed size")
    with refused, open_harness(Values, config=config, parameters=SHARED):
        """Nothing is served."""


def test_items_on_a_gpu_keep_responses_of_their_own_and_are_not_joined_to_those_on_the_host(gate):
    class OnGpuAtFirst(InPlace):
        def result(self, state):
            item = super().result(state)
            return item if isinstance(item, Done) or item > 2 else item.to(self.device)

    parameters = {**SHARED, "kindaware.output_device": "instance"}
    with open_harness(OnGpuAtFirst, kind="GPU", accelerator="simulated", parameters=parameters) as model:
        stream = model.stream(N=[[5]])
        until_waiting(model, 4)
        gate.set()
        assert items_of(stream) == [[[0]], [[1]], [[2]], [[3], [4]]]


@pytest.mark.parametrize("model_class", [Plain, Async])
def test_instance_that_ends_has_the_thread_that_sends_ended(model_class):
    with open_harness(model_class, parameters=SHARED) as model:
        assert [one.outputs["I"].item() for one in model.stream(N=[[1]])] == [0]
        thread = model.instance._kindaware_instance._streams._sender._thread._thread
        assert thread.is_alive()
    assert not thread.is_alive()
