"""`begin` and `step` on simulated GPUs: device and stream, items in time, exhausted memory, a lost device."""

import time
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interleavings import Kept, drawn
from simulated_kit import ON_GPU, serve, tensor

from kindaware import Done, KindAwareModel, Next
from kindaware.testing import Seeded, SimulatedAccelerator
from searches import examples

CONFIG = {
    "name": "m",
    "max_batch_size": 8,
    "input": [tensor("N", [1], "TYPE_INT32")],
    "output": [tensor("I", [1], "TYPE_INT32")],
    "model_transaction_policy": {"decoupled": True},
}
STARTS = [100, 200, 300, 400, 500, 600]
NUM_ITEMS = 8


class State(NamedTuple):
    number: torch.Tensor
    left: int


class Counting(KindAwareModel):
    """Counts down from N on the device, when the streams of all requests are open."""

    warmup = "off"
    num_streams = len(STARTS)

    def load(self):
        self.seen = set()
        self.begun = 0
        self.sizes = []
        self.ended = []

    def note(self, hook, device):
        self.seen.add((hook, str(device), torch.cuda.current_stream() == self.cuda_stream))

    def begin(self, N):
        self.note("begin", N.device)
        self.begun += 1
        return State(N, NUM_ITEMS)

    def step(self, states):
        if self.begun < self.num_streams:
            time.sleep(0.001)
            return [None] * len(states)
        self.sizes.append(len(states))
        numbers = torch.stack([one.number for one in states]) - 1
        self.note("step", numbers.device)
        return [
            Next(State(number, one.left - 1), number) if one.left else Done()
            for one, number in zip(states, numbers, strict=True)
        ]

    def end(self, state):
        self.note("end", state.number.device)
        self.ended.append(state.left)


def send(model, input_device="cpu"):
    numbers = [torch.tensor([[start]], dtype=torch.int32) for start in STARTS]
    streams = [model.stream(N=one, input_device=input_device) for one in numbers]
    return [list(stream) for stream in streams]


def items(results):
    return [
        result.outputs["I"].item() if result.error is None else result.error.code().name for result in results
    ]


EXPECTED = [[start - 1 - n for n in range(NUM_ITEMS)] for start in STARTS]


@pytest.mark.parametrize("input_device", ["cpu", ON_GPU])
@pytest.mark.parametrize("output_device", ["cpu", "instance"])
def test_step_on_a_gpu_has_device_and_stream_in_each_hook_and_waits_for_its_items(
    input_device, output_device
):
    takes = input_device != "cpu"
    with serve(Counting, config=CONFIG, takes_gpu_inputs=takes, output_device=output_device) as model:
        assert [items(one) for one in send(model, input_device)] == EXPECTED
        assert max(model.instance.sizes) == len(STARTS)
        assert model.instance.seen == {(hook, ON_GPU, True) for hook in ("begin", "step", "end")}
        assert model.accelerator.violations == []


def test_begin_batch_on_a_gpu_has_the_instances_stream():
    class Together(Counting):
        def begin_batch(self, inputs):
            self.note("begin_batch", inputs[0]["N"].device)
            return [self.begin(**one) for one in inputs]

        def step(self, states):
            time.sleep(0.1 * (self.begun < self.num_streams))  # the others wait, and begin together
            return super().step(states)

    with serve(Together, config=CONFIG, max_begins_per_step="16") as model:
        assert [items(one) for one in send(model)] == EXPECTED
        hooks = ("begin", "begin_batch", "step", "end")
        assert model.instance.seen == {(hook, ON_GPU, True) for hook in hooks}


@pytest.mark.parametrize("seed", range(5))
def test_step_on_a_gpu_gives_the_same_however_far_the_device_has_got(seed):
    gpus = SimulatedAccelerator(2, schedule=Seeded(seed))
    with serve(Counting, config=CONFIG, accelerator=gpus) as model:
        assert [items(one) for one in send(model)] == EXPECTED
        assert gpus.violations == []


def test_step_copies_the_items_of_all_streams_in_one_go():
    with serve(Counting, config=CONFIG) as model:
        waits, wait = [], model.instance._kindaware_instance.runtime.wait
        model.instance._kindaware_instance.runtime.wait = lambda: waits.append(1) or wait()
        send(model)
        # One per input, and one per step with items.
        assert len(waits) == len(STARTS) + NUM_ITEMS


def test_step_for_which_memory_runs_out_goes_on_with_fewer_streams_and_loses_none():
    class Large(Counting):
        def step(self, states):
            if self.begun == self.num_streams:
                torch.empty(len(states), 2**18, device=self.device)
            return super().step(states)

    gpus = SimulatedAccelerator(2, memory_bytes=3 * 2**20 + 2**19)
    with serve(Large, config=CONFIG, accelerator=gpus) as model:
        assert [items(one) for one in send(model)] == EXPECTED
        assert max(model.instance.sizes) == 3
        assert model.instance.ended == [0] * len(STARTS)
        assert model.instance._kindaware_instance._counters.preemptions >= 1
        assert gpus.violations == []


def test_step_on_a_device_that_is_lost_ends_all_streams_unavailable():
    class Breaks(Counting):
        def step(self, states):
            if len(self.sizes) == 3:
                model.accelerator.lose(1, "CUDA error: an illegal memory access was encountered")
            return super().step(states)

    with serve(Breaks, config=CONFIG) as model:
        for found, expected in zip(map(items, send(model)), EXPECTED, strict=True):
            assert found == [*expected[:3], "UNAVAILABLE"]
        assert not model.instance.is_ready()
        assert items(model.stream(N=[[9]])) == ["UNAVAILABLE"]
        assert model.log_text().count("expected a working device") == 1
        assert model.instance.ended == []


def test_step_holds_no_more_pinned_memory_from_stream_to_stream():
    with serve(Counting, config=CONFIG) as model:
        statistics = model.instance._kindaware_instance._device.staging.statistics
        held = []
        for _ in range(3):
            model.instance.begun = 0
            assert [items(one) for one in send(model)] == EXPECTED
            held.append(statistics.pinned_bytes)
        assert len(set(held)) == 1
        assert statistics.num_unpinned == 0


class Varied(KindAwareModel):
    """Counts up from N on the device, for as many items as the number ends in; 7 raises at its third."""

    warmup = "off"
    max_streams = 4

    def load(self):
        self.memory = torch.empty(64, dtype=torch.int32, device=self.device)

    def begin(self, N):
        return State(N, int(N[0, 0]) % 10)

    def step(self, states):
        if any(one.left == 5 and int(one.number) % 10 == 9 for one in states):
            raise ValueError("a stream that fails")
        # What is returned is overwritten by the next step.
        numbers = self.memory[: len(states)].view(-1, 1, 1).copy_(torch.stack([one.number for one in states]))
        return [
            Next(State(one.number + 1, one.left - 1), number) if one.left else Done()
            for one, number in zip(states, numbers, strict=True)
        ]


STREAMS = st.lists(
    st.tuples(st.sampled_from([0, 1, 3, 6, 7]), st.sampled_from(["cpu"] * 3 + [ON_GPU, "cuda:0"])),
    min_size=1,
    max_size=7,
)


@pytest.fixture(params=[{}, {"output_device": "instance"}, {"items_per_response": 4}], ids=str)
def kept(request):
    kept = Kept(lambda: serve(Varied, config=CONFIG, takes_gpu_inputs=True, **request.param))
    yield kept
    kept.close()


@given(cases=STREAMS, data=st.data())
@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
def test_step_items_do_not_depend_on_when_the_device_works(request, kept, cases, data):
    with kept.use() as model, drawn(model, request.node.name, cases, data):
        streams = [
            (
                start := 100 * place + num_items,
                num_items,
                model.stream(N=torch.tensor([[start]], dtype=torch.int32), input_device=device),
            )
            for place, (num_items, device) in enumerate(cases)
        ]
        for start, num_items, stream in streams:
            results = list(stream)
            errors = [one for one in results if one.error is not None]
            numbers = [n for one in results if one.error is None for n in one.outputs["I"].flatten().tolist()]
            if num_items == 7:
                assert numbers == [start, start + 1]
                assert ["a stream that fails" in one.error.message() for one in errors] == [True]
            else:
                assert errors == []
                assert numbers == list(range(start, start + num_items))
        assert model.accelerator.violations == []
