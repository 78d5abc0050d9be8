"""Calls that overlap: what each holds, and until when. On a runtime in host memory that copies late."""

import contextlib
import threading

import pytest
import torch
from recording_runtime import RecordingRuntime

from kindaware._device.staging import Flight, OverlappingStaging

MIB = 2**20


class SideStream:
    """A stream beside the instance's, whose mark is over when the runtime has done all that is queued."""

    def __init__(self, runtime):
        self.runtime = runtime

    def scope(self):
        return contextlib.nullcontext()

    def lead(self):
        self.runtime.log.append("lead")

    def follow(self):
        self.runtime.log.append("follow")

    def lend(self, tensor):
        self.runtime.log.append("lend")

    def mark(self):
        def wait():
            self.runtime.log.append("wait for mark")
            self.runtime.run_queue()

        return wait


class Runtime(RecordingRuntime):
    """Opens such streams."""

    def open_side_stream(self):
        return SideStream(self)


@pytest.fixture
def runtime():
    return Runtime()


@pytest.fixture
def staging(runtime):
    return OverlappingStaging(runtime, MIB)


def fly(staging):
    """One call with one batch, as far as `execute` takes it."""
    staging.begin_flight()
    staging.begin_call()
    staging.begin_forward()
    batch = staging.put([torch.rand(2, 3)])
    staging.fetch({"Y": batch})
    return staging.end_flight()


def buffers_of(staging, *flights):
    return [
        *staging._free,
        *staging._with_batch,
        *staging._with_call,
        *(one for flight in flights for one in flight.buffers),
    ]


def assert_each_once(buffers):
    assert len({id(one) for one in buffers}) == len(buffers)


def test_each_buffer_is_free_or_of_one_call_and_never_twice(staging):
    flights = []
    for _ in range(6):
        flights.append(fly(staging))
        assert_each_once(buffers_of(staging, *(one for one in flights if not one.is_answered)))
        if len(flights) > 1:
            flights[-2].land()
            flights[-2].is_answered = True
    assert staging._with_batch == staging._with_call == []
    # Of the call before, of the last, and those of the answered one before them.
    assert staging.statistics.pinned_bytes <= 3 * 2 * 4096


def test_call_that_is_answered_gives_its_buffers_back_once(staging):
    flight = fly(staging)
    flight.land()
    flight.is_answered = True
    for _ in range(2):
        staging.begin_flight()
        assert_each_once(staging._free)
        assert len(staging._free) == len(flight.buffers)


def test_call_that_is_not_answered_keeps_its_buffers(staging):
    flight = fly(staging)
    staging.begin_flight()
    assert staging._free == []
    assert len(flight.buffers) == 2


def test_call_without_a_batch_is_waited_for_too(runtime, staging):
    staging.begin_flight()
    flight = staging.end_flight()
    assert runtime.count("wait for mark") == 0
    flight.land()
    assert runtime.count("wait for mark") == 1


def test_end_of_a_call_leaves_nothing_for_which_the_next_batch_outside_of_one_would_wait(runtime, staging):
    fly(staging)
    staging.settle()
    assert runtime.count("wait") == 0


def test_after_a_call_batches_are_waited_for_as_they_come(runtime, staging):
    fly(staging)
    staging.begin_call()
    staging.begin_forward()
    rows = torch.rand(2, 3)
    fetched = staging.fetch({"Y": staging.put([rows])})
    assert runtime.count("wait") == 1
    assert torch.equal(fetched["Y"], rows)


def test_rows_are_copied_in_on_the_instances_stream_but_for_those_of_a_call(runtime, staging):
    staging.begin_forward()
    staging.put([torch.rand(2, 3)])
    assert runtime.count("lead") == 0
    staging.begin_flight()
    staging.put([torch.rand(2, 3)])
    assert runtime.count("lead") == runtime.count("lend") == 1


def test_outputs_that_stay_where_they_are_are_copied_before_the_next_forward(runtime):
    staging = OverlappingStaging(runtime, MIB, keeps_outputs=True)
    staging.begin_flight()
    staging.begin_forward()
    returned = torch.ones(2, 3)
    fetched = staging.fetch({"Y": returned})
    returned.zero_()
    assert torch.equal(fetched["Y"], torch.ones(2, 3))


def test_room_is_made_once_by_waiting_for_the_calls_before(runtime, staging):
    first = fly(staging)
    staging.begin_flight()
    assert first.is_holding
    assert staging.make_room()
    assert not first.is_holding
    assert runtime.count("wait for mark") == 2  # of the first call's batch, and of its end
    assert not staging.make_room()


def test_room_is_made_by_waiting_for_what_another_thread_has_waited_for_since(staging):
    first = fly(staging)
    staging.begin_flight()
    first.land()
    assert staging.make_room()
    assert not staging.make_room()


def test_room_is_made_by_waiting_for_the_batches_of_the_call_itself(staging):
    staging.begin_flight()
    assert not staging.make_room()
    staging.begin_forward()
    staging.fetch({"Y": staging.put([torch.rand(2, 3)])})
    assert staging.make_room()
    assert not staging.make_room()


def test_room_is_not_made_where_the_calls_before_hold_nothing(staging):
    fly(staging).land()
    staging.begin_flight()
    assert not staging.make_room()


def test_two_threads_wait_once_for_a_call():
    """The one that answers it, and the one that needs its memory."""
    flight, began, is_over, waits = Flight(), threading.Event(), threading.Event(), []

    def wait():
        waits.append(threading.current_thread())
        began.set()
        assert is_over.wait(20)

    flight.mark(wait)
    threads = [threading.Thread(target=flight.land) for _ in range(2)]
    threads[0].start()
    assert began.wait(20)
    threads[1].start()
    threads[1].join(0.1)
    assert threads[1].is_alive()
    is_over.set()
    for thread in threads:
        thread.join(20)
    assert waits == threads[:1]
