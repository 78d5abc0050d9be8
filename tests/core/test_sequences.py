"""Sequences: what is kept between requests, when it changes, and when it goes."""

import asyncio
import copy
import dataclasses
import weakref

import numpy as np
import pytest
import torch
from core_kit import MESSAGE, Doubler, make_config, make_pipeline, make_plan, make_spec, start

from kindaware import ConfigError, KindAwareError, KindAwareModel, RequestError, RequestInfo, TensorSpec
from kindaware._batch.request import Request
from kindaware._batch.results import Failure
from kindaware._config.sequence_spec import SequenceSpec
from kindaware._execute.executor import Executor
from kindaware._execute.sequence_state import SequenceState
from kindaware._execute.sequences import FILLER, Sequences
from kindaware.testing import ModelHarness

START, END = 1, 2
CONTROLS = [
    {"name": "BEGIN", "control": [{"kind": "CONTROL_SEQUENCE_START", "fp32_false_true": [0, 1]}]},
    {"name": "READY", "control": [{"kind": "CONTROL_SEQUENCE_READY", "bool_false_true": [False, True]}]},
    {"name": "ID", "control": [{"kind": "CONTROL_SEQUENCE_CORRID", "data_type": "TYPE_STRING"}]},
]
BATCHING = {"direct": {}, "control_input": CONTROLS}
CONFIG = {
    "name": "m",
    "backend": "python",
    "max_batch_size": 8,
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [1]}],
    "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [1]}],
    "sequence_batching": BATCHING,
}
BAD = -1.0


class Adding(KindAwareModel):
    """Adds up a sequence's numbers, in place; raises for a bad one when it has changed all states."""

    def load(self):
        self.seen = []

    def forward(self, X, requests):
        self.seen.append([(one.correlation_id, one.is_start, one.is_end) for one in requests])
        sums = [self.sequence_state.setdefault(one.correlation_id, torch.zeros(1)) for one in requests]
        for n, total in enumerate(sums):
            total.add_(X[n])
        if (X == BAD).any():
            raise self.error(X)
        return torch.stack(sums)

    def error(self, X):
        return ValueError("bad")


@pytest.fixture
def model():
    with open_harness() as harness:
        yield harness


def open_harness(model_class=Adding, config=CONFIG, **options):
    return ModelHarness(model_class, config=config, raise_errors=False, **options)


def send(model, *requests):
    """One call: (sequence, number, flags) each; gives sums and codes of errors."""
    results = model.infer_batch(
        [
            {"inputs": {"X": np.full((1, 1), number, np.float32)}, "correlation_id": sequence, "flags": flags}
            for sequence, number, flags in requests
        ]
    )
    return [one.error.code().name if one.error else one.outputs["Y"].item() for one in results]


def kept(model):
    return model.instance._kindaware_instance.sequences.state.kept


def test_sequences_that_share_batches_keep_their_own_state(model):
    assert send(model, (5, 1, START), ("five", 10, START)) == [1, 10]
    assert send(model, ("five", 10, 0), (5, 2, 0)) == [20, 3]
    assert send(model, (5, 3, 0)) == [6]
    assert send(model, (5, 4, END), ("five", 1, END)) == [10, 21]
    assert model.instance.seen[-1] == [(5, False, True), ("five", False, True)]
    assert kept(model) == {}


def test_sequence_that_begins_again_has_no_state(model):
    assert send(model, (5, 1, START)) == [1]
    assert send(model, (5, 2, START)) == [2]
    assert send(model, (5, 2, 0)) == [4]


def test_sequence_of_one_request_leaves_nothing(model):
    assert send(model, (5, 1, START | END)) == [1]
    assert kept(model) == {}


def test_forward_that_fails_changes_no_state_of_the_others(model):
    """The batch is run again in parts, and each part has changed the states before it raises."""
    assert send(model, *[(n, n, START) for n in range(1, 5)]) == [1, 2, 3, 4]
    assert send(model, (1, 10, 0), (2, BAD, 0), (3, 10, 0), (4, 10, 0)) == [11, "INTERNAL", 13, 14]
    assert len(model.instance.seen) > 3
    assert send(model, *[(n, 100, 0) for n in range(1, 5)]) == [111, 102, 113, 114]


def test_request_that_forward_refuses_leaves_its_sequence_as_it_was():
    class Naming(Adding):
        def error(self, X):
            return RequestError("bad", rows=(X == BAD).flatten())

    with open_harness(Naming) as model:
        assert send(model, (1, 1, START), (2, 2, START)) == [1, 2]
        assert send(model, (1, 10, 0), (2, BAD, 0)) == [11, "INVALID_ARG"]
        assert send(model, (1, 10, 0), (2, 10, 0)) == [21, 12]


def test_answer_that_does_not_fit_the_configuration_changes_no_state():
    class Wrong(Adding):
        def postprocess(self, outputs):
            return {"Y": outputs["Y"].double()} if (outputs["Y"] > 5).any() else outputs

    with open_harness(Wrong) as model:
        assert send(model, (1, 1, START), (2, 2, START)) == [1, 2]
        assert send(model, (1, 1, 0), (2, 9, 0)) == [2, "INTERNAL"]
        assert send(model, (1, 1, 0), (2, 1, 0)) == [3, 3]


def test_first_request_that_fails_begins_no_sequence(model):
    assert send(model, (1, BAD, START), (2, 2, START)) == ["INTERNAL", 2]
    assert send(model, (1, 1, 0), (2, 2, 0)) == ["INVALID_ARG", 4]


def test_last_request_that_fails_ends_its_sequence(model):
    send(model, (1, 1, START))
    assert send(model, (1, BAD, END)) == ["INTERNAL"]
    assert kept(model) == {}


def test_state_is_no_view_of_a_batch():
    """What is kept may be a row of an input, or of memory that the next forward overwrites."""

    class Keeping(KindAwareModel):
        def load(self):
            self.buffer = torch.zeros(8, 1)

        def forward(self, X, requests):
            last = [self.sequence_state.get(one.correlation_id, (torch.zeros(1),)) for one in requests]
            self.buffer[: len(X)] = X
            for n, one in enumerate(requests):
                self.sequence_state[one.correlation_id] = (self.buffer[n], {"row": [X[n]]})
            return torch.stack([one[0] for one in last]).clone()

    with open_harness(Keeping) as model:
        send(model, (1, 1, START), (2, 2, START))
        assert send(model, (2, 20, 0), (1, 10, 0)) == [2, 1]
        assert send(model, (1, 0, 0), (2, 0, 0)) == [10, 20]
        tensors = [kept(model)[1][0], kept(model)[1][1]["row"][0]]
        assert [one.untyped_storage().nbytes() for one in tensors] == [4, 4]


def test_state_of_a_hook_that_keeps_it_in_postprocess_is_kept():
    class Late(KindAwareModel):
        def load(self):
            return None

        def forward(self, X, requests):
            return X + torch.tensor([[self.sequence_state.get(one.correlation_id, 0)] for one in requests])

        def postprocess(self, outputs, requests):
            for one, total in zip(requests, outputs["Y"].flatten().tolist(), strict=True):
                self.sequence_state[one.correlation_id] = total
            return outputs

    with open_harness(Late) as model:
        assert send(model, (1, 1, START), (2, 2, START)) == [1, 2]
        assert send(model, (1, 1, 0), (2, 2, 0)) == [2, 4]


def test_asynchronous_forward_keeps_state_too():
    class Waiting(Adding):
        async def forward(self, X, requests):
            await asyncio.sleep(0)
            return super().forward(X, requests)

    with open_harness(Waiting) as model:
        assert send(model, (1, 1, START), (2, 2, START)) == [1, 2]
        assert send(model, (1, 10, 0), (2, BAD, 0)) == [11, "INTERNAL"]
        assert send(model, (1, 10, 0), (2, 10, 0)) == [21, 12]


def test_state_has_the_sequences_of_the_batch_and_no_other():
    class Looking(KindAwareModel):
        def load(self):
            self.seen = []

        def forward(self, X, requests):
            state = self.sequence_state
            for one in requests:
                if one.is_start:
                    with pytest.raises(KeyError):
                        state[one.correlation_id]
                    state[one.correlation_id] = "value"
                elif one.is_end:
                    del state[one.correlation_id]
            self.seen.append(dict(state))
            if X[0, 0] == BAD:
                state[99] = 1
            return X

    with open_harness(Looking) as model:
        send(model, (1, 1, START), (2, 1, START))
        send(model, (1, 1, 0))
        send(model, (1, 1, END), (2, 1, 0))
        assert model.instance.seen[1:] == [{1: "value", 2: "value"}, {1: "value"}, {2: "value"}]
        [result] = model.infer_batch(
            [{"inputs": {"X": np.full((1, 1), BAD, np.float32)}, "correlation_id": 2, "flags": 0}]
        )
        text = "self.sequence_state[99]: expected the correlation_id of one of the requests, in forward or"
        assert text in result.error.message()
        with pytest.raises(KindAwareError, match=r"got a batch of \[\]"):
            model.instance.sequence_state[1] = 0


def test_state_that_is_deleted_does_not_come_back_while_its_sequence_goes_on():
    class Forgetful(KindAwareModel):
        def load(self):
            return None

        def forward(self, X, requests):
            [one] = requests
            had = self.sequence_state.pop(one.correlation_id, None)
            if had is None:
                self.sequence_state[one.correlation_id] = "value"
            return torch.full_like(X, had is not None)

    with open_harness(Forgetful, parameters={"kindaware.warmup": "off"}) as model:
        assert [send(model, (1, 0, flags)) for flags in (START, 0, 0, 0)] == [[0], [1], [0], [1]]


def test_state_that_forward_has_set_is_there_in_postprocess_and_kept():
    class Both(KindAwareModel):
        def load(self):
            return None

        def forward(self, X, requests):
            [one] = requests
            self.sequence_state[one.correlation_id] = (
                self.sequence_state.get(one.correlation_id, 0) + X.item()
            )
            return X

        def postprocess(self, outputs, requests):
            [one] = requests
            return {"Y": torch.full((1, 1), self.sequence_state[one.correlation_id])}

    with open_harness(Both) as model:
        assert [send(model, (1, 1, START)), send(model, (1, 2, 0))] == [[1], [3]]


def test_state_that_is_read_twice_is_one_object_until_the_forward_ends():
    class Twice(KindAwareModel):
        def load(self):
            return None

        def forward(self, X, requests):
            [one] = requests
            if one.is_start:
                self.sequence_state[one.correlation_id] = torch.zeros(1)
            self.sequence_state[one.correlation_id].add_(X[0])
            self.sequence_state[one.correlation_id].add_(X[0])
            return self.sequence_state[one.correlation_id].reshape(1, 1).clone()

    with open_harness(Twice) as model:
        assert [send(model, (1, 1, START)), send(model, (1, 2, 0))] == [[2], [6]]


class Uncopyable:
    """Refuses as an object does that has no way to be pickled."""

    def __deepcopy__(self, memo):
        raise copy.Error("un(deep)copyable object of type Uncopyable")


def test_state_that_refuses_to_be_copied_is_refused():
    state = SequenceState()
    state.begin([2])
    state[2] = Uncopyable()
    with pytest.raises(
        KindAwareError, match=r"^self\.sequence_state\[2\]: expected a value that copy\.deepcop"
    ):
        state.seal(lambda: None)


def test_state_of_a_sequence_outside_of_the_batch_is_not_read():
    state = SequenceState()
    state.kept.update({1: "of the first", 2: "of the second"})
    state.begin([2])
    assert state[2] == "of the second"
    with pytest.raises(
        KindAwareError, match=r"^self\.sequence_state\[1\]: expected the correlation_id of one of"
    ):
        state[1]
    assert list(state) == [2]


def test_state_of_a_sequence_without_a_value_is_empty():
    state = SequenceState()
    state.begin([1, 2])
    state[2] = "value"
    assert (list(state), len(state), 1 in state) == ([2], 1, False)
    with pytest.raises(KeyError, match="1"):
        state[1]


def test_state_that_cannot_be_copied_is_refused():
    class Holding(Adding):
        def forward(self, X, requests):
            self.sequence_state[requests[0].correlation_id] = (one for one in ())
            return X

    with open_harness(Holding, parameters={"kindaware.warmup": "off"}) as model:
        [result] = model.infer_batch(
            [{"inputs": {"X": np.ones((1, 1), np.float32)}, "correlation_id": 2, "flags": START}]
        )
    assert "self.sequence_state[2]: expected a value that copy.deepcopy takes, got generator" in (
        result.error.message()
    )


def test_state_of_a_model_without_sequences_is_refused():
    with pytest.raises(
        KindAwareError, match=r"^self\.sequence_state: expected a model with sequence_batching"
    ):
        start(Doubler).sequence_state  # noqa: B018  # the property raises
    with pytest.raises(KindAwareError, match=r"^self\.reschedule: expected a model with sequence_batching"):
        start(Doubler).reschedule(RequestInfo("a", 1))


def test_forward_that_names_a_control_input_is_refused():
    class Asking(Doubler):
        def forward(self, X, READY):
            return X

    with pytest.raises(ConfigError, match=r"use is_start, is_end and correlation_id of requests\[n\]"):
        start(Asking, config=make_config(sequence_batching=BATCHING))


@pytest.mark.parametrize("rows", ["1", "3"])
def test_warm_up_has_a_sequence_per_row(rows):
    config = make_config(sequence_batching=BATCHING, input=CONFIG["input"], output=CONFIG["output"])
    model = start(Adding, config=config, parameters={"kindaware.warmup": rows})
    assert model.seen == [[(f"warm-up {n}", True, True) for n in range(int(rows))]]
    assert model._kindaware_instance.sequences.state.kept == {}


@pytest.mark.parametrize(("max_batch_size", "rows"), [(0, [None]), (8, [1, 1, 1])])
def test_warm_up_says_how_many_rows_a_request_has(max_batch_size, rows):
    class Noting(KindAwareModel):
        def load(self):
            self.seen = []

        def forward(self, X, requests):
            self.seen += [one.rows for one in requests]
            return X

    tensors = {"input": CONFIG["input"], "output": CONFIG["output"]}
    config = make_config(sequence_batching=BATCHING, max_batch_size=max_batch_size, **tensors)
    assert start(Noting, config=config, parameters={"kindaware.warmup": "3"}).seen == rows


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self):
        return self.now


def request(sequence, flags=0, outputs=("Y",), **inputs):
    info = RequestInfo("a", 1, correlation_id=sequence, flags=flags, requested_outputs=frozenset(outputs))
    return Request("a", {"X": torch.ones(1, 1), **inputs}, 1, info)


SPEC = SequenceSpec(frozenset({"READY"}), 1.0, is_iterative=False)


class Bench:
    """Sequences without a model: each request that is let in sets its sequence's state."""

    def __init__(self, *, max_sequences=1000, is_iterative=False, seconds=0.0):
        self.clock = Clock()
        spec = SequenceSpec(frozenset({"READY"}), 1.0, is_iterative)
        self.sequences = Sequences(spec, "m", max_sequences, self.clock)
        self.seconds = seconds
        self.let_in = []

    def answer(self, arrivals):
        self.let_in = arrivals
        self.clock.now += self.seconds
        return [one if isinstance(one, Failure) else {"Y": one.inputs["X"]} for one in arrivals]

    def run(self, *arrivals):
        outcomes = self.sequences.run(arrivals, self.answer)
        return [one.code if isinstance(one, Failure) else sorted(one) for one in outcomes]


def test_request_that_fills_a_place_is_answered_and_seen_by_nobody():
    bench = Bench()
    arrivals = [request(0, outputs=()), request(4, START), request(0, outputs=())]
    outcomes = bench.sequences.run(arrivals, bench.answer)
    assert [one is FILLER for one in outcomes] == [True, False, True]
    assert [one.info.correlation_id for one in bench.let_in] == [4]


class Adapter:
    """Reads what it is given, and shows what is to be answered."""

    def __init__(self):
        self.requests = self.responses = self

    def read(self, requests, *, asks_for_cancelled):
        return requests

    def respond(self, requests, results):
        return ["error" if isinstance(one, Failure) else float(one["Y"]) for one in results]

    def add_parameters(self, *_):
        return []

    def answer(self, outputs, requested):
        return (dict(outputs), tuple(requested))


def test_request_that_fills_a_place_gets_a_response_without_outputs():
    one = [TensorSpec("X", "FP32", [1])], [TensorSpec("Y", "FP32", [1])]
    spec = dataclasses.replace(make_spec(inputs=one[0], outputs=one[1]), sequences=SPEC)
    pipeline = make_pipeline(lambda X: 2 * X, spec=spec)
    plan = make_plan(lambda X: 2 * X, spec=spec)
    executor = Executor(plan, Adapter(), pipeline, Bench().sequences)
    requests = [request(0, outputs=()), request(4, START), request(0, outputs=())]
    assert executor.execute(requests) == [({}, ()), 2.0, ({}, ())]


def test_request_of_a_sequence_that_asks_for_no_output_is_no_filler():
    bench = Bench()
    assert bench.run(request(4, START, outputs=())) == [["Y"]]
    assert list(bench.sequences._last_used) == [4]


def test_request_that_says_nothing_about_itself_is_answered_and_begins_no_sequence():
    bench = Bench()
    assert bench.run(Request("a", {"X": torch.ones(1, 1)}, 1), request(4, START)) == [["Y"], ["Y"]]
    assert list(bench.sequences._last_used) == [4]


def test_sequence_whose_model_keeps_nothing_takes_no_memory():
    bench = Bench()
    assert bench.run(request(4, START)) == [["Y"]]
    assert bench.sequences.state.kept == {}


class Value:
    """Something that a weak reference can be made of."""


def test_state_that_a_failed_request_has_set_is_let_go_of():
    bench, held = Bench(), []

    def fail(arrivals):
        bench.sequences.state.begin([4])
        bench.sequences.state[4] = value = Value()
        held.append(weakref.ref(value))
        return [Failure("failed", "INTERNAL")]

    bench.sequences.run([request(4, START)], fail)
    assert held[0]() is None


@pytest.mark.parametrize(("device", "num_waits"), [("cpu", 1), ("meta", 0)])
def test_state_on_the_host_alone_is_copied_after_a_wait(device, num_waits):
    state, waits = SequenceState(), []
    state.begin([4])
    state[4] = torch.ones(2, device=device)
    state.seal(lambda: waits.append(4))
    assert len(waits) == num_waits


def test_call_that_raises_ends_as_others_do():
    """What raises is a fault of the device, after which the server asks again."""
    bench = Bench(is_iterative=True)

    def fail(arrivals):
        bench.sequences.state.begin([4])
        bench.sequences.reschedule(arrivals[0].info)
        bench.clock.now += 10.0
        raise RuntimeError("CUDA error")

    with pytest.raises(RuntimeError, match="CUDA error"):
        bench.sequences.run([request(4, START)], fail)
    with pytest.raises(KindAwareError, match=r"got a batch of \[\]"):
        bench.sequences.state[4] = "value"
    assert bench.run(request(4, START)) == [["Y"]]  # and no more to come again
    assert bench.sequences._longest_call_seconds == 10.0


def test_servers_own_warm_up_is_a_sequence_of_one_request():
    bench = Bench()
    assert bench.run(request(0)) == [["Y"]]
    assert (bench.let_in[0].info.is_start, bench.let_in[0].info.is_end) == (True, True)
    assert bench.sequences._last_used == {}


def test_control_inputs_reach_no_hook():
    bench = Bench()
    bench.run(request(4, START, READY=torch.ones(1, 1)))
    assert list(bench.let_in[0].inputs) == ["X"]


def test_request_of_no_known_sequence_is_refused_and_no_other():
    bench = Bench()
    assert bench.run(request(1), request(2, START), Failure("unreadable", "INTERNAL")) == [
        "INVALID_ARG",
        ["Y"],
        "INTERNAL",
    ]
    assert MESSAGE.match(bench.let_in[0].text)
    assert (
        "model 'm' sequence 1: expected a sequence whose first request was answered" in bench.let_in[0].text
    )


def unread(sequence, flags):
    return Failure("unreadable", "INVALID_ARG", request(sequence, flags).info)


@pytest.mark.parametrize("flags", [START, END])
def test_first_or_last_request_that_is_not_read_ends_the_sequence_before(flags):
    bench = Bench()
    bench.run(request(1, START), request(2, START))
    assert bench.run(unread(1, flags), request(2)) == ["INVALID_ARG", ["Y"]]
    assert list(bench.sequences._last_used) == [2]
    assert bench.run(request(1)) == ["INVALID_ARG"]


def test_request_in_the_middle_that_is_not_read_leaves_its_sequence_as_it_was():
    bench = Bench()
    bench.run(request(1, START))
    assert bench.run(unread(1, 0)) == ["INVALID_ARG"]
    assert bench.run(request(1)) == [["Y"]]


def test_request_that_came_again_and_is_not_read_ends_its_sequence():
    bench = Bench(is_iterative=True)
    bench.sequences._last_used[1] = 0.0
    assert bench.run(unread(1, 0)) == ["INVALID_ARG"]
    assert bench.sequences._last_used == {}


def test_first_request_that_was_cancelled_goes_on_with_no_state_of_an_earlier_sequence():
    with open_harness(parameters={"kindaware.cancellation": "on"}) as model:
        assert send(model, (1, 1, START)) == [1]
        model.infer(X=[[5.0]], correlation_id=1, flags=START, cancelled=True)
        assert kept(model) == {}
        assert send(model, (1, 1, 0)) == ["INVALID_ARG"]


def test_second_request_of_a_sequence_in_one_call_is_refused():
    bench = Bench()
    assert bench.run(request(1, START), request(1)) == [["Y"], "INVALID_ARG"]
    assert "expected one request of a sequence at a time" in bench.let_in[1].text


def test_sequence_beyond_the_bound_takes_the_place_of_the_one_that_is_longest_idle():
    bench = Bench(max_sequences=2)
    bench.run(request(1, START))
    bench.run(request(2, START))
    bench.run(request(1))
    assert bench.run(request(3, START)) == [["Y"]]
    assert bench.run(request(1), request(2), request(3)) == [["Y"], "INVALID_ARG", ["Y"]]
    assert "one that is idle, or longest idle of more than 2, is dropped" in bench.let_in[1].text


def test_sequences_that_never_end_cost_no_other_its_place_in_a_busy_instance():
    bench = Bench(max_sequences=32, seconds=0.001)
    assert all(bench.run(request(number, START)) == [["Y"]] for number in range(1, 541))
    assert len(bench.sequences._last_used) == 32


def test_sequence_beyond_the_bound_in_one_call_is_refused_and_those_of_the_call_go_on():
    bench = Bench(max_sequences=2)
    bench.run(request(1, START))
    assert bench.run(request(1), request(2, START), request(3, START), request(4, START | END)) == [
        ["Y"],
        ["Y"],
        "UNAVAILABLE",
        ["Y"],
    ]
    assert "model 'm' sequence 3: expected at most 2 sequences at a time" in bench.let_in[2].text
    assert bench.run(request(3), request(2), request(1, END)) == ["INVALID_ARG", ["Y"], ["Y"]]
    assert bench.run(request(2, START), request(3, START)) == [["Y"], ["Y"]]


def test_sequence_that_is_idle_is_dropped_though_the_instance_is_busy():
    bench = Bench(seconds=0.1)
    bench.run(request(1, START))
    for _ in range(30):
        bench.run(request(2, START))
    assert list(bench.sequences._last_used) == [2]
    assert bench.run(request(1)) == ["INVALID_ARG"]


def test_sequence_of_one_request_takes_no_place_of_one_that_begins_behind_it():
    bench = Bench(max_sequences=1)
    assert bench.run(request(1, START | END), request(2, START)) == [["Y"], ["Y"]]


def test_sequence_that_is_refused_takes_no_place_of_one_that_begins_again_behind_it():
    bench = Bench(max_sequences=1)
    bench.run(request(1, START))
    assert bench.run(request(2, START), request(1, START)) == ["UNAVAILABLE", ["Y"]]
    assert bench.run(request(1)) == [["Y"]]


def test_sequence_that_is_idle_for_twice_the_servers_time_is_dropped():
    bench = Bench()
    bench.run(request(1, START))
    bench.clock.now = 1.9
    bench.run(request(2, START))
    bench.clock.now = 2.1
    assert bench.run(request(2)) == [["Y"]]
    assert list(bench.sequences._last_used) == [2]
    assert bench.run(request(1)) == ["INVALID_ARG"]


def test_sequence_that_is_idle_for_no_more_than_twice_the_servers_time_goes_on():
    """The server may not have looked for idle sequences yet."""
    bench = Bench()
    bench.run(request(1, START))
    bench.clock.now = 2.0
    bench.run(request(2, START))
    assert bench.run(request(1)) == [["Y"]]


def test_idle_sequence_that_the_server_still_has_goes_on():
    bench = Bench()
    bench.run(request(1, START))
    bench.clock.now = 60.0
    assert bench.run(request(1)) == [["Y"]]


def test_time_of_a_few_calls_makes_no_sequence_of_a_slow_instance_idle():
    """Its next request may wait in the server's queue meanwhile."""
    bench = Bench(seconds=10.0)
    bench.run(request(1, START))
    bench.run(request(2, START))
    bench.run(request(3, START))
    assert bench.run(request(1)) == [["Y"]]


class CountingBehind(KindAwareModel):
    """Counts the requests of a sequence in postprocess, which alone names requests."""

    def load(self):
        """Make nothing."""

    def forward(self, X):
        if (X > 90).any():
            raise ValueError("too many")
        return 0 * X

    def postprocess(self, outputs, requests):
        for place, one in enumerate(requests):
            count = self.sequence_state.get(one.correlation_id, 0) + 1
            self.sequence_state[one.correlation_id] = count
            outputs["Y"][place] = count
        return outputs


def test_state_is_there_for_a_model_whose_postprocess_alone_names_requests():
    with open_harness(CountingBehind) as model:
        assert send(model, (7, 1, START), (8, 1, START)) == [1, 1]
        assert send(model, (7, 1, 0), (8, 99, 0)) == [2, "INTERNAL"]
        assert send(model, (7, 1, END), (8, 1, END)) == [3, 2]


def test_reschedule_in_postprocess_of_a_batch_that_fails_is_forgotten():
    class Hasty(CountingBehind):
        rounds = 0

        def postprocess(self, outputs, requests):
            self.rounds += 1
            if len(requests) > 1:
                for one in requests:
                    self.reschedule(one)
                raise ValueError("too many")
            return outputs

    with open_harness(Hasty, ITERATIVE, parameters={"kindaware.warmup": "off"}) as model:
        assert send(model, (0, 1, 0), (0, 1, 0)) == [0, 0]
        assert model.instance.rounds == 3


class Countdown(KindAwareModel):
    """Answers a request when it has come as often as it says."""

    def load(self):
        self.rounds = []

    def forward(self, X, requests):
        self.rounds.append(len(requests))
        counts = []
        for wanted, one in zip(X.flatten().tolist(), requests, strict=True):
            count = self.sequence_state.get(one.correlation_id, 0) + 1
            self.sequence_state[one.correlation_id] = count
            counts.append([float(count)])
            if count < wanted:
                self.reschedule(one)
        if X.max() > 90:
            raise ValueError("too many")
        return torch.tensor(counts)


ITERATIVE = CONFIG | {"sequence_batching": {"oldest": {}, "iterative_sequence": True}}


def test_request_that_is_rescheduled_comes_again_with_its_state():
    with open_harness(Countdown, ITERATIVE, parameters={"kindaware.warmup": "off"}) as model:
        assert send(model, (0, 1, 0), (0, 3, 0), (0, 2, 0)) == [1, 3, 2]
        assert model.instance.rounds == [3, 2, 1]
        assert kept(model) == {}
        assert model.instance._kindaware_instance.sequences._last_used == {}


def test_request_that_is_rescheduled_and_fails_is_answered_with_its_error():
    with open_harness(Countdown, ITERATIVE, parameters={"kindaware.warmup": "off"}) as model:
        assert send(model, (0, 2, 0), (0, 99, 0)) == [2, "INTERNAL"]
        assert kept(model) == {}
        assert model.instance._kindaware_instance.sequences._again == set()


def test_forward_that_fails_reschedules_nothing():
    class Hasty(Countdown):
        def forward(self, X, requests):
            if len(requests) > 1:
                for one in requests:
                    self.reschedule(one)
                raise ValueError("too many")
            return super().forward(X, requests)

    with open_harness(Hasty, ITERATIVE, parameters={"kindaware.warmup": "off"}) as model:
        assert send(model, (0, 1, 0), (0, 1, 0)) == [1, 1]
        assert model.instance.rounds == [1, 1]


def test_request_with_the_flag_end_cannot_come_again():
    with open_harness(Countdown, ITERATIVE) as model:
        assert send(model, (7, 2, START | END), (8, 1, START | END)) == ["INVALID_ARG", 1]


def test_reschedule_without_iterative_sequence_is_refused():
    with open_harness(Countdown, parameters={"kindaware.warmup": "off"}) as model:
        assert send(model, (7, 2, START)) == ["UNSUPPORTED"]
        assert send(model, (7, 1, START)) == [1]
