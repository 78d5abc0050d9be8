"""Graphed methods of models with `step` on simulated GPUs: the same answers, whatever is replayed when."""

import re
import threading
import time
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interleavings import Kept, drawn
from simulated_kit import serve, tensor

from kindaware import Done, KindAwareModel, Next, RequestError, graphed
from kindaware.states import SlotCache
from kindaware.testing import SimulatedAccelerator
from searches import examples

CONTEXT = 12
CONFIG = {
    "name": "m",
    "max_batch_size": 8,
    "input": [tensor("N", [1], "TYPE_INT32")],
    "output": [tensor("SUM", [1]), tensor("LAST", [1])],
    "model_transaction_policy": {"decoupled": True},
}


class State(NamedTuple):
    slot: int
    length: int
    token: torch.Tensor
    left: int


class Sums(KindAwareModel):
    """Counts up from N, for as many items as it ends in, and sums what its slot has seen."""

    max_streams = 6
    cuda_graphs = (1, 4)

    def load(self):
        self.cache = SlotCache(self.settings.max_streams, seen=(CONTEXT,))
        self.rows = []
        self.begun = 0
        self.wanted = 0

    def warmup_inputs(self, rows):
        return {"N": torch.full((rows, 1), 5, dtype=torch.int32)}

    @graphed
    def decode(self, tokens, slots, lengths):
        self.rows.append(len(tokens))
        seen = self.cache.seen
        seen[slots, lengths] = tokens.to(seen.dtype)
        known = torch.arange(CONTEXT, device=tokens.device) <= lengths[:, None]
        return (seen[slots] * known).sum(dim=1), {"next": tokens + 1}

    def begin(self, N):
        self.begun += 1
        number = int(N[0, 0])
        return State(self.cache.take(), 0, N[0, 0].float(), number % 10)

    def step(self, states):
        if self.begun < self.wanted:
            time.sleep(0.001)
            return [None] * len(states)
        tokens = torch.stack([one.token for one in states])
        slots = torch.tensor([one.slot for one in states], device=self.device)
        lengths = torch.tensor([one.length for one in states], device=self.device)
        sums, more = self.decode(tokens, slots, lengths=lengths)
        self.check(states)
        return [
            Next(
                State(one.slot, one.length + 1, more["next"][row], one.left - 1),
                {"SUM": sums[row].view(1, 1), "LAST": one.token.view(1, 1)},
            )
            if one.left
            else Done()
            for row, one in enumerate(states)
        ]

    def check(self, states):
        """Raise for a stream that fails."""

    def end(self, state):
        self.cache.release(state.slot)


def expected(number):
    """What a stream answers: the sums, and the last numbers."""
    numbers = [number + n for n in range(number % 10)]
    return [(float(sum(numbers[: n + 1])), float(last)) for n, last in enumerate(numbers)]


def open_model(model_class=Sums, **options):
    return serve(model_class, config=CONFIG, **options)


def send(model, numbers, wanted=None):
    """Answer streams that begin at these numbers; all together, if so many are waited for."""
    instance = model.instance
    instance.rows.clear()
    instance.begun, instance.wanted = 0, len(numbers) if wanted is None else wanted
    streams = [model.stream(N=torch.tensor([[number]], dtype=torch.int32)) for number in numbers]
    return [list(stream) for stream in streams]


def pairs(results):
    return [(one.outputs["SUM"].item(), one.outputs["LAST"].item()) for one in results if one.error is None]


def errors(results):
    return [one.error.message() for one in results if one.error is not None]


def assert_sums(model, numbers, **options):
    for number, results in zip(numbers, send(model, numbers, **options), strict=True):
        assert errors(results) == []
        assert pairs(results) == expected(number)


def graph_warnings(model):
    return [line for line in model.log_text().splitlines() if "cuda_graphs" in line and "expected" in line]


@pytest.mark.parametrize("num_streams", [1, 2, 4])
def test_steps_of_as_many_streams_as_a_graph_has_rows_or_fewer_run_no_python(num_streams):
    with open_model() as model:
        for _ in range(2):
            # Streams that end one by one: from one number of rows to the next.
            assert_sums(model, [103, 207, 305, 404][:num_streams])
            assert model.instance.rows == []
        assert "CUDA graphs for rows of a step 1, 4" in model.log_text()
        assert model.accelerator.violations == []


def test_steps_of_more_streams_than_the_largest_graph_run_the_method():
    with open_model() as model:
        assert_sums(model, [103, 207, 305, 404, 506, 603])
        assert model.instance.rows == [6] * 4
        assert model.accelerator.violations == []


def test_graphs_are_captured_largest_first_and_each_size_runs_before():
    class Notes(Sums):
        def load(self):
            super().load()
            self.seen = []

        @graphed
        def decode(self, tokens, slots, lengths):
            captures = torch.cuda.is_current_stream_capturing()
            self.seen.append((len(tokens), captures, torch.is_inference_mode_enabled()))
            return super().decode(tokens, slots, lengths)

    with open_model(Notes, warmup="off") as model:
        sizes = [(rows, captures) for rows, captures, _ in model.instance.seen]
        assert sizes == [(1, False), *[(4, False)] * 2, (4, True), *[(1, False)] * 2, (1, True)]
        assert all(in_inference_mode for *_, in_inference_mode in model.instance.seen)
        # The method that it calls is part of its graph.
        assert_sums(model, [103, 204])
        assert model.instance.rows == []


@pytest.mark.parametrize("options", [{"cuda_graphs": "off"}, {"kind": "CPU", "device_id": 0}], ids=str)
def test_without_graphs_the_method_runs(options):
    with open_model(**options) as model:
        assert_sums(model, [103, 207, 305, 404])
        assert set(model.instance.rows) == {4, 3, 2, 1}


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed"])
def test_graphs_compute_in_the_precision_of_the_setting(precision):
    class Products(Sums):
        def load(self):
            super().load()
            self.layer = torch.nn.Linear(CONTEXT, 2, bias=False)
            torch.nn.init.constant_(self.layer.weight, 1 + 2**-10)

        @graphed
        def decode(self, tokens, slots, lengths):
            sums, more = super().decode(tokens, slots, lengths)
            seen = self.cache.seen[slots].new_zeros(len(tokens), CONTEXT)
            seen[:, 0] = sums
            product = self.layer(seen)[:, 0]
            assert product.dtype is torch.bfloat16
            return product.float(), more

    with open_model(Products, precision=precision) as model:
        # Exact, since the weights are rounded to 1 in that precision.
        assert_sums(model, [3, 17, 5, 4])
        assert model.instance.rows == []
        assert graph_warnings(model) == []


class Refusing(Sums):
    """A stream whose number ends in 9 fails at its third item, in a way that a class says."""

    def check(self, states):
        guilty = [row for row, one in enumerate(states) if one.left == 7 and int(one.token) % 10 == 1]
        if guilty:
            self.refuse(guilty)

    def refuse(self, guilty):
        raise ValueError("a stream that fails")


class Naming(Refusing):
    def refuse(self, guilty):
        raise RequestError("a stream that fails", rows=guilty)


@pytest.mark.parametrize("model_class", [Refusing, Naming])
def test_stream_that_fails_behind_a_replay_fails_alone_and_no_item_is_lost(model_class):
    with open_model(model_class) as model:
        numbers = [106, 209, 304, 405]
        results = send(model, numbers)
        for number, one in zip(numbers, results, strict=True):
            assert pairs(one) == expected(number)[: 2 if number == 209 else None]
            assert [text for text in errors(one) if "a stream that fails" not in text] == []
            assert len(errors(one)) == (number == 209)
        assert model.instance.rows == []
        assert model.accelerator.violations == []


def test_steps_for_which_memory_runs_out_go_on_with_fewer_rows():
    class Large(Sums):
        def check(self, states):
            torch.empty(len(states), 2**18, device=self.device)

    gpus = SimulatedAccelerator(2, memory_bytes=3 * 2**20 + 2**19)
    with open_model(Large, accelerator=gpus) as model:
        assert_sums(model, [103, 207, 305, 404])
        assert model.instance._kindaware_instance._counters.preemptions >= 1
        assert model.instance.rows == []
        assert gpus.violations == []


class Waiting(Sums):
    """Waits for the device in its method."""

    @graphed
    def decode(self, tokens, slots, lengths):
        assert tokens.sum().item() >= 0
        return super().decode(tokens, slots, lengths)


def test_capture_that_fails_is_reported_once_and_the_method_runs():
    with open_model(Waiting) as model:
        (line,) = graph_warnings(model)
        assert re.search(r"cuda_graphs of decode with 1, 4 row\(s\): expected to be captured, got \w+", line)
        assert ", no CUDA graph" in model.log_text()
        assert_sums(model, [103, 207, 305, 404])
        assert set(model.instance.rows) == {4, 3, 2, 1}


def test_capture_that_fails_is_the_last_that_is_tried():
    class Two(Waiting):
        @graphed
        def last(self, tokens):
            self.captures.append(torch.cuda.is_current_stream_capturing())
            return tokens

        def load(self):
            super().load()
            self.captures = []

        def step(self, states):
            if self.begun >= self.wanted:
                self.decode(torch.ones(1, device=self.device), *torch.zeros(2, 1).long().to(self.device))
                self.last(torch.ones(1, device=self.device))
            return super().step(states)

    with open_model(Two) as model:
        assert [line.split(" with ")[0][-7:] for line in graph_warnings(model)] == [" decode", "of last"]
        assert not any(model.instance.captures)


def test_size_that_the_method_cannot_compute_has_no_graph_and_the_others_do():
    class Slots(Sums):
        @graphed
        def decode(self, tokens, slots, lengths):
            if len(tokens) > self.cache.num_slots:
                raise ValueError("more rows than slots")
            return super().decode(tokens, slots, lengths)

    with open_model(Slots, cuda_graphs="2,8") as model:
        (line,) = graph_warnings(model)
        assert "decode with 8 row(s): expected to be captured, got ValueError: more rows than slots; " in line
        assert "CUDA graphs for rows of a step 2" in model.log_text()
        assert_sums(model, [103, 202])
        assert model.instance.rows == []


def test_method_that_the_warm_up_does_not_call_is_reported():
    class Ends(Sums):
        def warmup_inputs(self, rows):
            return {"N": torch.zeros(rows, 1, dtype=torch.int32)}

        def begin(self, N):
            return super().begin(N) if int(N[0, 0]) else Done()

    with open_model(Ends) as model:
        (line,) = graph_warnings(model)
        assert "cuda_graphs of method decode: expected a call by step in the warm-up, got none; " in line
        assert_sums(model, [103, 202])


def test_call_without_rows_and_memory_that_is_overwritten_are_no_example():
    class Reuses(Sums):
        def load(self):
            super().load()
            self.memory = torch.empty(2, 6, dtype=torch.int64, device=self.device)

        def decode(self, tokens, slots, lengths):
            places = self.memory[:, : len(slots)].copy_(torch.stack([slots, lengths]))
            try:
                return self.write(tokens, *places)
            finally:
                places.fill_(CONTEXT + 1)  # of no slot

        @graphed
        def write(self, tokens, slots, lengths):
            return super().decode(tokens, slots, lengths)

        def step(self, states):
            none = torch.empty(0, dtype=torch.int64, device=self.device)
            self.write(none.float(), none, none)
            return super().step(states)

    with open_model(Reuses) as model:
        assert graph_warnings(model) == []
        assert_sums(model, [103, 202])
        assert set(model.instance.rows) == {0}
        assert model.accelerator.violations == []


def test_calls_of_several_shapes_have_graphs_of_their_own():
    class Shapes(Sums):
        @graphed
        def twice(self, values):
            self.rows.append(tuple(values.shape))
            return 2 * values

        def step(self, states):
            for width in (2, 3):
                values = torch.full((len(states), width), float(self.begun), device=self.device)
                assert self.twice(values).tolist() == (2 * values).tolist()
            return super().step(states)

    with open_model(Shapes) as model:
        assert_sums(model, [103, 202])
        assert model.instance.rows == []


def test_step_that_is_refused_in_the_warm_up_leaves_nothing_behind():
    class Refuses(Sums):
        warmup_inputs = None

        def step(self, states):
            results = super().step(states)
            if not self.wanted:
                raise RequestError("no zeros")
            return results

    with open_model(Refuses) as model:
        assert "define warmup_inputs(rows)), no CUDA graph" in model.log_text()
        assert_sums(model, [103])
        assert model.instance._kindaware_instance.graphs._examples == {}


def test_calls_of_other_shapes_run_the_method():
    class Wide(Sums):
        def step(self, states):
            results = super().step(states)
            if self.wanted:
                (row,) = self.extra(torch.ones(1, 3, device=self.device))
                assert row.tolist() == [2, 2, 2]
            else:
                self.extra(torch.ones(1, 2, device=self.device))
            return results

        @graphed
        def extra(self, values):
            self.rows.append(values.shape[1])
            return 2 * values

    with open_model(Wide) as model:
        assert_sums(model, [102])
        assert model.instance.rows == [3] * 3


def test_call_outside_of_inference_mode_is_replayed():
    class Outside(Sums):
        def step(self, states):
            with torch.inference_mode(False), torch.no_grad():
                return super().step(states)

    with open_model(Outside) as model:
        assert_sums(model, [103, 204])
        assert model.instance.rows == []


def test_call_on_another_thread_runs_the_method():
    class Threads(Sums):
        def check(self, states):
            if self.wanted:
                thread = threading.Thread(target=self.decode_one, args=(torch.ones(1, device=self.device),))
                thread.start()
                thread.join()

        def decode_one(self, tokens):
            with torch.inference_mode(), torch.cuda.stream(self.cuda_stream):
                place = torch.zeros(1, dtype=torch.int64, device=self.device)
                self.decode(tokens, place + 5, place)

    with open_model(Threads) as model:
        assert_sums(model, [102, 203])
        assert model.instance.rows == [1] * 4
        assert model.accelerator.violations == []


def test_structure_that_depends_on_the_rows_is_no_graph():
    class Varying(Sums):
        @graphed
        def decode(self, tokens, slots, lengths):
            returned = super().decode(tokens, slots, lengths)
            return returned if len(tokens) == 4 else (*returned, tokens)

        def step(self, states):
            decode, self.__dict__["decode"] = self.decode, lambda *args, **named: decode(*args, **named)[:2]
            try:
                return super().step(states)
            finally:
                del self.__dict__["decode"]

    with open_model(Varying) as model:
        (line,) = graph_warnings(model)
        assert "decode with 1 row(s): expected to be captured, got OutputError: " in line
        assert_sums(model, [103, 202])


def test_device_that_is_lost_while_capturing_fails_the_load():
    class Breaks(Sums):
        @graphed
        def decode(self, tokens, slots, lengths):
            if len(tokens) == 4:
                gpus.lose(1, "CUDA error: an illegal memory access was encountered")
            return super().decode(tokens, slots, lengths)

    gpus = SimulatedAccelerator(2)
    with pytest.raises(Exception, match="illegal memory access"), open_model(Breaks, accelerator=gpus):
        pass


# One that fails at most: a search for several may end before it has found them all.
STREAMS = st.lists(st.sampled_from([100, 201, 303, 304, 406, 509]), min_size=1, max_size=8).filter(
    lambda numbers: numbers.count(509) <= 1
)


@pytest.fixture(params=[{}, {"output_device": "instance"}, {"precision": "bf16-mixed"}], ids=str)
def kept(request):
    kept = Kept(lambda: open_model(Refusing, max_isolation=1, **request.param))
    yield kept
    kept.close()


@given(numbers=STREAMS, data=st.data())
@settings(max_examples=examples(30), deadline=None, suppress_health_check=list(HealthCheck))
def test_items_do_not_depend_on_what_is_replayed_and_when_the_device_works(request, kept, numbers, data):
    with kept.use() as model, drawn(model, request.node.name, numbers, data):
        for number, results in zip(numbers, send(model, numbers, wanted=1), strict=True):
            assert pairs(results) == expected(number)[: 2 if number == 509 else None]
            assert len(errors(results)) == (number == 509)
        assert model.accelerator.violations == []
