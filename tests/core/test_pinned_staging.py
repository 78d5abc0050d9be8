"""Pinned buffers: who may touch them when. On a runtime in host memory that copies as late as it may."""

import pytest
import torch
from core_kit import make_pipeline, make_request, make_spec
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_runtime import RecordingRuntime

from kindaware import TensorSpec
from kindaware._batch.results import Failure
from kindaware._config.settings import Settings
from kindaware._device import staging as _staging
from kindaware._device.runtime import CpuRuntime
from kindaware._device.staging import HostStaging, PinnedStaging, open_staging
from searches import examples

MIB = 2**20


@pytest.fixture
def runtime():
    return RecordingRuntime()


@pytest.fixture
def staging(runtime):
    return PinnedStaging(runtime, MIB)


def pointers(tensors):
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def test_open_staging_copies_only_where_the_device_has_its_own_memory(runtime):
    assert isinstance(open_staging(CpuRuntime(), Settings()), HostStaging)
    assert isinstance(open_staging(CpuRuntime(), Settings(output_device="instance")), HostStaging)
    assert isinstance(open_staging(runtime, Settings()), PinnedStaging)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.int64, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("rows", [[1], [2, 0, 3], [0], [0, 0], [1] * 40])
def test_put_joins_rows_through_one_queued_copy(runtime, staging, dtype, rows):
    parts = [torch.randint(0, 2, (count, 2, 3)).to(dtype) for count in rows]
    batch = staging.put(parts)
    assert (runtime.count("copy"), runtime.count("wait")) == (1, 0)
    staging.settle()
    assert torch.equal(batch, torch.cat(parts))
    assert staging.statistics.bytes_in == batch.nbytes


def test_each_buffer_is_free_or_in_use_by_a_batch_or_by_a_call_and_never_twice(staging):
    for num_rows in (1, 4, 2, 4):
        staging.begin_call()
        for _ in range(2):
            staging.begin_forward()
            batch = staging.put([torch.rand(num_rows, 3000)])
            staging.fetch({"Y": batch, "Z": batch + 1})
        held = [*staging._free, *staging._with_batch, *staging._with_call]
        assert len({id(buffer) for buffer in held}) == len(held)
        assert sum(map(len, held)) == staging.statistics.pinned_bytes


def test_begin_forward_waits_for_copies_to_the_host_once_and_only_where_some_are_expected(
    staging, monkeypatch
):
    waits = []
    monkeypatch.setattr(staging._runtime, "wait_for_host_memory", lambda: waits.append(1), raising=False)
    on_host, elsewhere = torch.zeros(2), torch.zeros(2, device="meta")
    staging.begin_forward()
    staging.expect([elsewhere])
    staging.begin_forward()
    assert waits == []
    staging.expect([on_host])
    staging.expect([elsewhere])
    for _ in range(2):
        staging.begin_forward()
        assert waits == [1]
    staging.land([elsewhere])
    assert waits == [1]
    staging.land([elsewhere, on_host])
    assert waits == [1, 1]


def test_settle_waits_for_what_a_hook_has_queued_since_begin_forward(runtime, staging):
    staging.settle()
    assert runtime.count("wait") == 0
    staging.begin_forward()
    staging.settle()
    assert runtime.count("wait") == 1


def test_outputs_are_copied_before_the_next_forward_and_not_again_before_the_one_after_it():
    staging = HostStaging()
    staging.begin_call()
    returned = torch.ones(2)
    outputs = staging.fetch({"Y": returned})
    staging.begin_forward()
    copied = outputs["Y"]
    assert copied is not returned
    staging.begin_forward()
    assert outputs["Y"] is copied


@pytest.mark.parametrize(("limit_bytes", "num_kept"), [(3 * 4096, 1), (3 * 4096 - 1, 0)])
def test_free_buffers_are_dropped_only_as_far_as_the_limit_asks_for(runtime, limit_bytes, num_kept):
    staging = PinnedStaging(runtime, limit_bytes)
    staging.put([torch.zeros(4096, dtype=torch.uint8)])
    staging.settle()
    staging.put([torch.zeros(8192, dtype=torch.uint8)])
    assert len(staging._free) == num_kept
    assert staging.statistics.num_unpinned == 0


def test_put_takes_rows_that_are_not_contiguous(staging):
    part = torch.arange(12.0).reshape(3, 4).T
    batch = staging.put([part])
    staging.settle()
    assert torch.equal(batch, part)


@pytest.mark.parametrize(
    ("rows", "pieces"),
    [
        ([1] * 8, [2, 2, 2, 2]),
        ([1, 1, 1], [2, 1]),
        ([8], [2, 2, 2, 2]),
        ([1, 4, 0, 2], [3, 2, 2]),
        ([3, 0, 3], [2, 3, 1]),
        ([2, 0], [2]),
    ],
)
def test_put_above_the_size_of_a_piece_queues_a_copy_per_piece(runtime, staging, monkeypatch, rows, pieces):
    monkeypatch.setattr(_staging, "PIECE_BYTES", 2 * 12)
    parts = [torch.rand(count, 3) for count in rows]
    batch = staging.put(parts)
    assert [len(target) for target, *_ in runtime._queue] == pieces
    staging.settle()
    assert torch.equal(batch, torch.cat(parts))
    assert runtime.violations == []
    assert staging.statistics.bytes_in == batch.nbytes


def test_put_queues_each_piece_before_the_next_one_is_copied_on_the_host(runtime, staging, monkeypatch):
    monkeypatch.setattr(_staging, "PIECE_BYTES", 8)
    monkeypatch.setattr(_staging, "concat_into", lambda piece, target: runtime.log.append("host copy"))
    staging.put([torch.rand(1, 2), torch.rand(1, 2), torch.rand(1, 2)])
    assert [entry for entry in runtime.log if isinstance(entry, str)] == ["host copy", "copy"] * 3


def test_put_strided_rows_larger_than_a_piece_go_one_by_one(runtime, staging, monkeypatch):
    monkeypatch.setattr(_staging, "PIECE_BYTES", 8)
    parts = [torch.rand(2, 7), torch.rand(14, 1).expand(14, 7)[::7]]
    batch = staging.put(parts)
    assert [len(target) for target, *_ in runtime._queue] == [1, 1, 1, 1]
    staging.settle()
    assert torch.equal(batch, torch.cat(parts))


@pytest.mark.parametrize(
    ("shapes", "pieces"), [([(1, 2, 5)], [4, 4, 2]), ([(2, 5), (1, 5)], [4, 4, 6, 1]), ([(10,)], [4, 4, 2])]
)
def test_put_contiguous_rows_larger_than_a_piece_are_cut_within(
    runtime, staging, monkeypatch, shapes, pieces
):
    monkeypatch.setattr(_staging, "PIECE_BYTES", 16)
    parts = [torch.rand(shape) for shape in shapes]
    batch = staging.put(parts)
    assert [target.numel() for target, *_ in runtime._queue] == pieces
    staging.settle()
    assert torch.equal(batch, torch.cat(parts))
    assert runtime.violations == []


@pytest.mark.parametrize("where", ["host", "device"])
def test_put_with_a_target_fills_it(runtime, staging, where):
    target = torch.empty(4, 3)
    parts = [torch.rand(1, 3), torch.rand(2, 3)]
    if where == "host":
        put = staging.put(parts, target[:3])
        staging.settle()
    else:
        put = HostStaging().put(parts, target[:3])
    assert put.data_ptr() == target.data_ptr()
    assert torch.equal(target[:3], torch.cat(parts))


def test_put_single_tensor_of_the_device_with_a_target_is_copied(runtime, staging):
    runtime.device = torch.device("meta")
    target = torch.empty(2, 3, device="meta")
    assert staging.put([torch.empty(2, 3, device="meta")], target) is target


def test_settle_waits_for_work_on_memory_that_triton_takes_back(runtime, staging):
    runtime.device = torch.device("meta")
    staging.put([torch.empty(2, 3, device="meta")])
    staging.settle()
    assert runtime.log == ["wait"]


def test_put_memory_that_cannot_be_pinned_is_not_counted(runtime, staging, monkeypatch):
    def refuse(num_bytes):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(runtime, "new_pinned", refuse)
    with pytest.raises(RuntimeError, match="out of memory"):
        staging.put([torch.ones(3)])
    assert staging.statistics.pinned_bytes == 0


def test_begin_call_after_a_wait_that_failed_leaves_the_buffers_alone(runtime, staging, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "wait", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            staging.fetch({"Y": torch.ones(4)})
    staging.begin_call()
    staging.put([torch.full((4,), 2.0)])
    assert runtime.count("new_pinned") == 2  # the first is still being written to
    staging.settle()
    staging.begin_call()
    staging.fetch({"Y": torch.full((4,), 3.0)})
    assert (runtime.count("new_pinned"), runtime.violations) == (2, [])


def test_put_takes_a_tensor_of_the_device_without_a_copy(runtime, staging):
    runtime.device = torch.device("meta")
    parts = [torch.empty(2, 3, device="meta"), torch.empty(1, 3, device="meta")]
    assert staging.put(parts).shape == (3, 3)
    assert runtime.log == []


def test_fetch_waits_once_for_all_outputs(runtime, staging):
    outputs = {"Y": torch.rand(2, 3), "N": torch.arange(2)}
    fetched = staging.fetch(outputs)
    assert runtime.log[-1] == "wait"
    assert (runtime.count("copy"), runtime.count("wait"), runtime.num_pending) == (2, 1, 0)
    assert all(torch.equal(fetched[name], outputs[name]) for name in outputs)
    assert pointers(fetched.values()).isdisjoint(pointers(outputs.values()))
    assert staging.statistics.bytes_out == 2 * 3 * 4 + 2 * 8


def test_fetch_output_of_another_gpu_comes_by_way_of_the_instances_own(runtime, staging):
    class Elsewhere:
        device = torch.device("cuda", 1)

        def to(self, device):
            self.moved_to = device
            return torch.ones(2)

    output = Elsewhere()
    assert staging.fetch({"Y": output})["Y"].tolist() == [1, 1]
    assert output.moved_to == runtime.device


@pytest.fixture
def keeping(runtime):
    return PinnedStaging(runtime, MIB, keeps_outputs=True)


def test_fetch_outputs_that_stay_are_waited_for_and_not_copied(runtime, keeping):
    outputs = {"Y": torch.rand(2, 3), "N": torch.arange(2)}
    fetched = keeping.fetch(outputs)
    assert runtime.log == ["wait"]
    assert all(fetched[name] is outputs[name] for name in outputs)


@pytest.mark.parametrize("where", ["host", "device"])
def test_fetch_outputs_that_stay_are_copied_before_a_second_forward(keeping, where):
    staging = HostStaging() if where == "host" else keeping
    memory = torch.ones(3)
    first = staging.fetch({"Y": memory})
    staging.begin_forward()
    second = staging.fetch({"Y": memory.fill_(2)})
    assert (first["Y"].tolist(), second["Y"].tolist()) == ([1] * 3, [2] * 3)
    staging.begin_call()
    staging.begin_forward()
    assert second["Y"] is memory  # nobody needs the answers of the call before


class OnGpu:
    """Stands for a tensor in Triton's memory on the GPU."""

    device = torch.device("cuda", 0)

    def __init__(self, memory):
        self.memory = memory

    def to(self, device):
        return self.memory


def test_fetch_output_that_is_tritons_memory_is_copied(keeping):
    memory, other = torch.arange(6.0).reshape(3, 2), torch.ones(3, 2)
    batch = keeping.put([OnGpu(memory)])
    fetched = keeping.fetch({"whole": batch, "part": batch[1:].view(-1), "other": other})
    assert fetched["other"] is other
    memory.fill_(-1)  # as after execute
    assert fetched["whole"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert fetched["part"].tolist() == [2, 3, 4, 5]
    batch = keeping.put([OnGpu(memory), OnGpu(memory)])
    assert keeping.fetch({"Y": batch})["Y"] is batch  # joined, so no longer Triton's
    assert keeping.fetch({"Y": memory})["Y"] is memory  # an input of the batch before


def test_run_outputs_stay_on_the_device_cut_into_rows(runtime, keeping):
    memory = torch.empty(8, 2)

    def forward(X):
        runtime.run_queue()
        return torch.mul(X, 2, out=memory[: len(X)])

    pipeline = make_pipeline(forward, runtime=runtime, staging=keeping, collate=None)
    answers = pipeline.run([make_request(n, n, rows=n) for n in range(1, 4)])
    assert [one["Y"].tolist() for one in answers] == [[[2 * n, 2 * n]] * n for n in range(1, 4)]
    assert pointers(one["Y"] for one in answers) == pointers([memory])
    assert (runtime.count("copy"), runtime.count("wait")) == (1, 1)


def test_run_second_forward_of_a_call_leaves_outputs_on_the_device_alone(runtime, keeping):
    memory = torch.empty(2)

    def forward(X):
        runtime.run_queue()
        return torch.mul(X, 2, out=memory)

    pipeline = make_pipeline(forward, spec=make_spec(max_batch_size=0), runtime=runtime, staging=keeping)
    answers = pipeline.run([make_request(n, n, batches=False) for n in range(3)])
    assert [one["Y"].tolist() for one in answers] == [[2 * n] * 2 for n in range(3)]


def test_settle_without_anything_queued_does_not_wait(runtime, staging):
    staging.settle()
    assert runtime.log == []


def test_put_input_buffer_is_not_reused_before_the_wait(runtime, staging):
    batches = [staging.put([torch.full((4,), float(value))]) for value in range(3)]
    assert runtime.count("new_pinned") == 3
    staging.settle()
    assert runtime.violations == []
    assert [batch[0].item() for batch in batches] == [0, 1, 2]


def test_put_input_buffer_is_reused_after_the_wait(runtime, staging):
    for value in range(5):
        batch = staging.put([torch.full((4,), float(value))])
        staging.settle()
        assert batch.tolist() == [value] * 4
    assert runtime.count("new_pinned") == 1
    assert runtime.violations == []


def test_fetch_outputs_of_one_call_never_share_memory(staging):
    staging.begin_call()
    first = staging.fetch({"Y": torch.full((4,), 1.0)})["Y"]
    staging.begin_forward()
    second = staging.fetch({"Y": torch.full((4,), 2.0)})["Y"]
    assert pointers([first]).isdisjoint(pointers([second]))
    assert (first.tolist(), second.tolist()) == ([1] * 4, [2] * 4)


def test_fetch_output_buffers_are_reused_in_the_next_call_and_not_before(runtime, staging):
    kept = [staging.fetch({"Y": torch.full((4,), float(value))})["Y"] for value in range(3)]
    assert [one.tolist() for one in kept] == [[value] * 4 for value in range(3)]
    assert runtime.count("new_pinned") == 3
    staging.begin_call()
    later = staging.fetch({"Y": torch.full((4,), 9.0)})["Y"]
    assert later.tolist() == [9] * 4
    assert runtime.count("new_pinned") == 3
    assert pointers([later]) <= pointers(kept)


def test_borrow_beyond_the_limit_goes_through_pageable_memory(runtime):
    staging = PinnedStaging(runtime, 4096)
    outputs = {"A": torch.full((1024,), 1.0), "B": torch.full((1024,), 2.0)}
    fetched = staging.fetch(outputs)
    assert [fetched[name][0].item() for name in "AB"] == [1, 2]
    assert (staging.statistics.num_unpinned, staging.statistics.pinned_bytes) == (1, 4096)
    assert runtime.count("new_pinned") == 1


def test_borrow_limit_zero_never_pins(runtime):
    staging = PinnedStaging(runtime, 0)
    batch = staging.put([torch.ones(3)])
    assert staging.fetch({"Y": torch.ones(3)})["Y"].tolist() == [1] * 3
    assert batch.tolist() == [1] * 3
    assert (runtime.count("new_pinned"), staging.statistics.num_unpinned) == (0, 2)


def test_borrow_drops_small_free_buffers_to_make_room_for_a_large_one(runtime):
    staging = PinnedStaging(runtime, 16384)
    for _ in range(2):
        staging.put([torch.zeros(8)])
    staging.settle()
    assert staging.statistics.pinned_bytes == 8192
    staging.put([torch.zeros(4096)])
    assert (staging.statistics.pinned_bytes, staging.statistics.num_unpinned) == (16384, 0)


def test_borrow_takes_the_smallest_buffer_that_fits(runtime):
    staging = PinnedStaging(runtime, MIB)
    staging.put([torch.zeros(8192)])
    staging.put([torch.zeros(8)])
    staging.settle()
    staging.put([torch.zeros(16)])
    staging.put([torch.zeros(8192)])
    assert runtime.log.count(("new_pinned", 4096)) == runtime.log.count(("new_pinned", 32768)) == 1


def make_forward(runtime, *, bad=-1.0):
    """Doubles; a bad batch fails before the device got to its copies."""

    def forward(X):
        if runtime.num_pending and (runtime._queue[0][1] == bad).any():
            raise ValueError("bad")
        runtime.run_queue()
        return 2 * X

    return forward


def test_run_batch_that_fails_leaves_no_copy_under_way(runtime, staging):
    pipeline = make_pipeline(make_forward(runtime), runtime=runtime, staging=staging)
    first = pipeline.run([make_request("a", -1)])
    assert isinstance(first[0], Failure)
    assert runtime.num_pending == 0
    [answer] = pipeline.run([make_request("b", 3)])
    assert answer["Y"].tolist() == [[6, 6]]
    assert runtime.violations == []


def test_run_many_calls_hold_no_more_memory_than_one(runtime, staging):
    pipeline = make_pipeline(make_forward(runtime), runtime=runtime, staging=staging)
    for value in range(1, 6):
        [answer] = pipeline.run([make_request("a", value)])
        assert answer["Y"].tolist() == [[2 * value] * 2]
    assert runtime.count("new_pinned") == 2


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.booleans()), max_size=6), max_size=4
    ),
    st.sampled_from([0, 4096, 8192, MIB]),
)
def test_run_through_pinned_buffers_equals_run_on_the_host(calls, limit_bytes):
    runtime = RecordingRuntime()
    staging = PinnedStaging(runtime, limit_bytes)
    spec = make_spec(inputs=[TensorSpec("X", "FP32", [-1])], outputs=[TensorSpec("Y", "FP32", [-1])])
    pinned = make_pipeline(make_forward(runtime), spec=spec, runtime=runtime, staging=staging)
    host = make_pipeline(make_forward(RecordingRuntime()), spec=spec, preprocess=refuse_bad)
    for call in calls:
        requests = [
            make_request(place, -1.0 if is_bad else place, rows=rows, width=width)
            for place, (rows, width, is_bad) in enumerate(call)
        ]
        answers = pinned.run(requests)
        for answer, expected in zip(answers, host.run(requests), strict=True):
            gave_up = isinstance(answer, Failure) and sum(is_bad for *_, is_bad in call) > 1
            assert gave_up or isinstance(answer, Failure) == isinstance(expected, Failure)
            if not isinstance(answer, Failure):
                assert torch.equal(answer["Y"], expected["Y"])
        assert (runtime.violations, runtime.num_pending) == ([], 0)
        assert staging.statistics.pinned_bytes <= limit_bytes


def refuse_bad(inputs):
    """What the forward above does to a bad request alone."""
    if (inputs["X"] == -1).any():
        raise ValueError("bad")
    return inputs


@pytest.mark.parametrize("method", ["run", "warm_up"])
def test_pipeline_has_the_buffers_of_the_call_before_again(method):
    runtime = RecordingRuntime()
    staging = PinnedStaging(runtime, 2**20)
    pipeline = make_pipeline(lambda X: 2 * X, runtime=runtime, staging=staging)
    held = []
    for _ in range(4):
        request = make_request("a", 1)
        getattr(pipeline, method)([request] if method == "run" else request)
        held.append(staging.statistics.pinned_bytes)
    assert held[0] > 0
    assert set(held) == {held[0]}
