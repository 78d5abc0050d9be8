"""Work that takes time: who waits for how long, and what was busy when."""

import time

import pytest
import torch
from accelerator_kit import simulated

DEVICE = "cuda:1"
LONG = 0.2
ADD, MULTIPLY = "aten::add.Tensor", "aten::mul.Tensor"


@pytest.fixture
def gpu():
    with simulated() as gpu:
        # The first operation of a kind takes the host longer.
        (torch.ones(4, device=DEVICE) * 2 + 1).tolist()
        gpu.cost = lambda name, num_bytes: LONG if name in (ADD, MULTIPLY) else 0.0
        yield gpu


def test_wait_lasts_until_the_work_would_be_done(gpu):
    y = torch.ones(4, device=DEVICE) + 1
    assert time.perf_counter() < gpu.history[-1].end
    assert y.tolist() == [2] * 4
    assert time.perf_counter() >= gpu.history[-1].end


def test_work_of_a_stream_comes_one_after_the_other_and_that_of_two_at_the_same_time(gpu):
    x, side = torch.ones(4, device=DEVICE), torch.cuda.Stream(DEVICE)
    side.wait_stream(torch.cuda.current_stream(DEVICE))
    y = x + 1
    z = y + 1
    with torch.cuda.stream(side):
        beside = x * 2
    first, second, other = gpu.history
    assert [one.name for one in gpu.history] == [ADD, ADD, MULTIPLY]
    assert second.start == first.end
    assert first.start < other.start < first.end
    assert other.stream is side.queue
    assert all(one.end - one.start == pytest.approx(LONG) for one in gpu.history)
    side.synchronize()
    assert (z.tolist(), beside.tolist()) == ([3] * 4, [2] * 4)


def test_stream_that_waits_for_another_begins_when_that_is_done(gpu):
    x, side = torch.ones(4, device=DEVICE), torch.cuda.Stream(DEVICE)
    y = x + 1
    side.wait_stream(torch.cuda.current_stream(DEVICE))
    with torch.cuda.stream(side):
        z = y * 2
        assert z.tolist() == [4] * 4
    before, after = gpu.history
    assert after.start >= before.end


def test_events_say_when_they_are_reached_and_how_far_they_are_apart(gpu):
    x = torch.ones(4, device=DEVICE)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    events[0].record(torch.cuda.current_stream(DEVICE))
    y = x + 1
    events[1].record(torch.cuda.current_stream(DEVICE))
    assert not events[1].query()
    events[1].synchronize()
    assert events[1].query()
    assert events[0].elapsed_time(events[1]) >= 1e3 * LONG
    assert y.tolist() == [2] * 4


def test_cost_gets_the_bytes_that_are_read_and_written(gpu):
    seen = {}
    gpu.cost = lambda name, num_bytes: seen.setdefault(name, num_bytes) * 0.0
    x = torch.ones(128, device=DEVICE)  # a whole block: what is new counts with all of its block
    assert (x + 1).tolist() == [2] * 128
    assert seen[ADD] == 512 + 512


def test_without_a_cost_nothing_is_recorded_and_no_time_passes():
    with simulated() as gpu:
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        for event in events:
            event.record()
        assert (torch.ones(4, device=DEVICE) + 1).tolist() == [2] * 4
        assert list(gpu.history) == []
        assert events[0].elapsed_time(events[1]) == 0
