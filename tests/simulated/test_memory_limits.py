"""A GPU with room for so many rows; memory that runs out at any allocation; pinned memory up to a limit."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interleavings import Kept, drawn
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

from kindaware.testing.accelerator import SimulatedAccelerator
from searches import examples

WIDTH = 2048
ROW_BYTES = WIDTH * 4
CONFIG = make_config(input=[tensor("X", [WIDTH])], output=[tensor("Y", [WIDTH])])
ANY_WIDTH = make_config(max_batch_size=9, input=[tensor("X", [-1])], output=[tensor("Y", [-1])])


class Counting(Doubler):
    """Doubles by way of two intermediate results; notes with how many rows it was called."""

    def load(self):
        self.sizes = []

    def forward(self, X):
        self.sizes.append(len(X))
        quarter = X / 4
        half = quarter + quarter
        return 4 * half


TENSORS = 4
"""How many tensors of a batch's size are there at once: the input, two intermediate ones, the output."""


def serve_with_room_for(rows):
    room = SimulatedAccelerator(2, memory_bytes=rows * TENSORS * ROW_BYTES)
    return serve(Counting, config=CONFIG, accelerator=room, warmup="off")


@pytest.mark.parametrize("rows", range(1, 9))
def test_execute_batch_is_halved_until_it_fits(rows):
    sent = entries(*[1] * 8, width=WIDTH)
    with serve_with_room_for(rows) as harness:
        assert_answers(harness.infer_batch(sent), sent)
        assert_clean(harness)
        sizes = harness.instance.sizes
        fits = max(size for size in (8, 4, 2, 1) if size <= rows)
        assert [size for size in sizes if size <= rows] == [fits] * (8 // fits)
        assert_answers(harness.infer_batch(sent), sent)


def test_execute_request_that_does_not_fit_fails_alone():
    sent = entries(1, 5, 2, width=WIDTH)
    with serve_with_room_for(3) as harness:
        for _ in range(2):
            good, large, other = harness.infer_batch(sent)
            assert_answers([good, other], [sent[0], sent[2]])
            assert "CUDA out of memory" in large.error.message()
            assert large.error.code().name == "INTERNAL"
            assert_clean(harness)


@pytest.fixture(params=["cpu", "instance"])
def kept(request):
    kept = Kept(lambda: serve(Counting, warmup="off", output_device=request.param))
    yield kept
    kept.close()


@given(
    rows=st.lists(st.integers(1, 3), min_size=1, max_size=4).filter(lambda rows: sum(rows) <= 8),
    failing=st.sets(st.integers(1, 20), max_size=8),
    data=st.data(),
)
@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
def test_execute_any_allocations_fail_each_request_is_answered_once(request, kept, rows, failing, data):
    sent = entries(*rows)
    with kept.use() as harness, drawn(harness, request.node.name, [(rows, failing)], data):
        count = 0

        def fault(number, name):
            nonlocal count
            count += name == "allocate"
            is_meant = name == "allocate" and count in failing
            return torch.OutOfMemoryError("CUDA out of memory (injected)") if is_meant else None

        harness.accelerator.fault = fault
        results = harness.infer_batch(sent)
        for entry, result in zip(sent, results, strict=True):
            if result.error is None:
                assert_answers([result], [entry])
            else:
                assert "injected" in result.error.message()
        assert sum(result.error is not None for result in results) <= len(failing)
        assert_clean(harness)
        harness.accelerator.fault = None
        assert_answers(harness.infer_batch(sent), sent)
        assert_clean(harness)


LIMITS = [0, 4096, 20_000, 65_536, 2**20]
CALLS = st.lists(
    st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from([1, 7, 500, 1500, 5000, 12_000])), min_size=1, max_size=3
    )
)


@pytest.fixture(params=LIMITS)
def limited(request):
    kept = Kept(lambda: serve(config=ANY_WIDTH, pinned_limit_bytes=request.param))
    yield kept
    kept.close()


@given(calls=CALLS, data=st.data())
@settings(max_examples=examples(25), deadline=None, suppress_health_check=list(HealthCheck))
def test_execute_sizes_that_grow_and_shrink_stay_within_the_pinned_limit(request, limited, calls, data):
    with limited.use() as harness, drawn(harness, request.node.name, calls, data):
        statistics = staging_of(harness).statistics
        for number, call in enumerate(calls):
            before = statistics.num_unpinned
            sent = []
            for place, (rows, width) in enumerate(call):
                sent += entries(rows, first=1 + 50 * number + 10 * place, width=width)
            assert_answers(harness.infer_batch(sent), sent)
            assert_clean(harness)
            limit = harness.instance.settings.pinned_limit_bytes
            assert statistics.pinned_bytes <= limit
            if limit == 0:
                num_batches = len({width for _, width in call})
                assert statistics.num_unpinned == before + 2 * num_batches


def test_execute_statistics_count_bytes_in_both_directions():
    with serve(config=ANY_WIDTH, warmup="off") as harness:
        statistics = staging_of(harness).statistics
        harness.infer_batch(entries(1, 3, width=100))
        assert (statistics.bytes_in, statistics.bytes_out) == (1600, 1600)
        assert statistics.pinned_bytes == 8192
        harness.infer_batch(entries(1, 3, width=100))
        assert (statistics.bytes_in, statistics.bytes_out) == (3200, 3200)
        assert (statistics.pinned_bytes, statistics.num_unpinned) == (8192, 0)
        harness.infer(X=np.zeros((4, 5000), np.float32))
        assert statistics.pinned_bytes == 8192 + 2 * 131_072


@pytest.mark.parametrize("cuda_graphs", ["off", "2,3,8"])
def test_warm_up_of_several_sizes_holds_no_more_buffers_than_one(cuda_graphs):
    with serve(warmup="1,2,3,4,8", cuda_graphs=cuda_graphs) as harness:
        assert staging_of(harness).statistics.pinned_bytes == 2 * 4096
        assert_clean(harness)
