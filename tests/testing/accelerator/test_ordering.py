"""Streams, events, races, and what is current where."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from accelerator_kit import outcomes, simulated

DEVICE = "cuda:1"


def side_stream():
    return torch.cuda.Stream(DEVICE)


def values(late):
    """Read host memory that a copy was queued for, without any wait."""
    return late.tolist()


def test_work_is_done_when_the_host_waits_and_no_earlier():
    with simulated() as gpu:
        late = (torch.ones(2, device=DEVICE) + 1).to("cpu", non_blocking=True)
        assert gpu.num_pending == 3
        assert gpu.timeline.num_done == 0
        torch.cuda.synchronize(DEVICE)
        assert values(late) == [2, 2]
        assert gpu.timeline.num_done == 3


def test_synchronize_waits_for_all_streams_of_one_device():
    with simulated() as gpu:
        with torch.cuda.stream(side_stream()):
            one = torch.ones(1, device=DEVICE).to("cpu", non_blocking=True)
        other = torch.ones(1, device="cuda:0").to("cpu", non_blocking=True)
        torch.cuda.synchronize(DEVICE)
        assert values(one) == [1]
        assert values(other) != [1]
        torch.cuda.synchronize("cuda:0")
        assert gpu.num_pending == 0


def test_stream_synchronize_waits_for_that_stream_only():
    with simulated():
        one, other = side_stream(), side_stream()
        with torch.cuda.stream(one):
            first = torch.ones(1, device=DEVICE).to("cpu", non_blocking=True)
        with torch.cuda.stream(other):
            second = torch.ones(1, device=DEVICE).to("cpu", non_blocking=True)
        other.synchronize()
        assert values(second) == [1]
        assert values(first) != [1]


def test_event_is_the_place_behind_what_was_queued_when_it_was_recorded():
    with simulated():
        first = torch.ones(1, device=DEVICE).to("cpu", non_blocking=True)
        event = torch.cuda.current_stream(DEVICE).record_event()
        second = torch.ones(1, device=DEVICE).to("cpu", non_blocking=True)
        event.synchronize()
        assert values(first) == [1]
        assert values(second) != [1]
        event.record(torch.cuda.current_stream(DEVICE))
        event.synchronize()
        assert values(second) == [1]


def test_event_that_was_never_recorded_is_reached():
    with simulated() as gpu:
        event = torch.cuda.Event(enable_timing=True)
        assert event.query()
        event.synchronize()
        side_stream().wait_event(event)
        assert gpu.num_pending == 0


@pytest.mark.parametrize("kind", ["event", "stream"])
def test_query_says_no_first_and_yes_at_last(kind):
    with simulated():
        stream = side_stream()
        with torch.cuda.stream(stream):
            late = (torch.ones(2, device=DEVICE) + 1).to("cpu", non_blocking=True)
        asked = stream.record_event() if kind == "event" else stream
        answers = [asked.query()]
        while not answers[-1]:
            answers.append(asked.query())
        assert answers == [False, False, False, True]
        assert values(late) == [2, 2]


def test_query_that_said_yes_orders_what_the_host_does_next():
    with simulated():
        stream, tensor = side_stream(), torch.zeros(2, device=DEVICE)
        torch.cuda.synchronize(DEVICE)
        with torch.cuda.stream(stream):
            tensor += 1
        while not stream.query():
            pass
        tensor += 1
        assert tensor.cpu().tolist() == [2, 2]


def write(tensor):
    tensor += 1


def read(tensor):
    return tensor + 1


@pytest.mark.parametrize(
    ("first", "second", "does"),
    [(write, read, "writes"), (read, write, "reads"), (write, write, "writes")],
    ids=["read after write", "write after read", "write after write"],
)
@pytest.mark.parametrize(
    ("order", "races"),
    [
        (None, True),
        ("wait_event", False),
        ("wait_stream", False),
        ("event.wait", False),
        ("stream synchronize", False),
        ("event synchronize", False),
        ("device synchronize", False),
        ("another device's synchronize", True),
        ("event recorded before", True),
        ("wait by a third stream", True),
        ("wait through a third stream", False),
    ],
)
def test_two_streams_on_one_tensor_race_unless_they_are_ordered(first, second, does, order, races):
    with simulated(expects_violations=races) as gpu:
        tensor = torch.zeros(4, device=DEVICE)
        torch.cuda.synchronize(DEVICE)
        one, other, third = side_stream(), side_stream(), side_stream()
        early = one.record_event()
        with torch.cuda.stream(one):
            first(tensor)
        if order == "wait_event":
            other.wait_event(one.record_event())
        elif order == "wait_stream":
            other.wait_stream(one)
        elif order == "event.wait":
            one.record_event().wait(other)
        elif order == "stream synchronize":
            one.synchronize()
        elif order == "event synchronize":
            one.record_event().synchronize()
        elif order == "device synchronize":
            torch.cuda.synchronize(DEVICE)
        elif order == "another device's synchronize":
            torch.cuda.synchronize("cuda:0")
        elif order == "event recorded before":
            other.wait_event(early)
        elif order == "wait by a third stream":
            third.wait_stream(one)
        elif order == "wait through a third stream":
            third.wait_stream(one)
            other.wait_stream(third)
        with torch.cuda.stream(other):
            second(tensor)
        torch.cuda.synchronize(DEVICE)
        assert tensor.cpu().tolist() == [(first is write) + (second is write)] * 4
        if races:
            assert f"while {one.queue!r} still {does} the same memory" in outcomes(gpu)
            assert f"on {other.queue!r}" in outcomes(gpu)


def test_a_race_is_said_once():
    with simulated(expects_violations=True) as gpu:
        tensor = torch.zeros(4, device=DEVICE)
        torch.cuda.synchronize(DEVICE)
        with torch.cuda.stream(side_stream()):
            tensor += 1
        for _ in range(3):
            read(tensor)
        assert len(gpu.violations) == 1


def test_two_streams_that_only_read_do_not_race():
    with simulated():
        tensor = torch.ones(4, device=DEVICE)
        torch.cuda.synchronize(DEVICE)
        for _ in range(40):
            with torch.cuda.stream(side_stream()):
                read(tensor)
        torch.cuda.synchronize(DEVICE)
        write(tensor)


@pytest.mark.parametrize(("where", "races"), [(slice(2, 4), False), (slice(1, 3), True)])
def test_two_streams_on_parts_of_a_tensor_race_where_these_overlap(where, races):
    with simulated(expects_violations=races):
        tensor = torch.zeros(4, device=DEVICE)
        torch.cuda.synchronize(DEVICE)
        with torch.cuda.stream(side_stream()):
            write(tensor[:2])
        with torch.cuda.stream(side_stream()):
            write(tensor[where])


def test_many_parts_are_joined_and_a_race_with_the_first_is_still_found():
    with simulated(expects_violations=True):
        tensor = torch.zeros(100, device=DEVICE)
        torch.cuda.synchronize(DEVICE)
        with torch.cuda.stream(side_stream()):
            for place in range(0, 100, 2):
                write(tensor[place : place + 1])
        assert len(tensor.allocation.block.writes) < 50
        read(tensor[:1])


def test_race_on_page_locked_memory_between_two_streams_is_found():
    with simulated(expects_violations=True) as gpu:
        there, here = torch.ones(2, device=DEVICE), torch.zeros(2, pin_memory=True)
        torch.cuda.synchronize(DEVICE)
        here.copy_(there, non_blocking=True)
        with torch.cuda.stream(side_stream()):
            torch.empty(2, device=DEVICE).copy_(here, non_blocking=True)
        assert "run copy to the device on stream" in outcomes(gpu)
        torch.cuda.synchronize(DEVICE)


def test_work_of_another_device_is_not_ordered_by_itself():
    with simulated(expects_violations=True):
        tensor = torch.zeros(2, device="cuda:0")
        with torch.cuda.stream(torch.cuda.Stream("cuda:0")):
            tensor += 1


def test_default_stream_does_not_wait_for_the_others():
    with simulated() as gpu:
        with torch.cuda.stream(side_stream()):
            torch.ones(1, device=DEVICE)
        torch.ones(1, device=DEVICE)
        torch.cuda.default_stream(DEVICE).synchronize()
        assert gpu.num_pending == 1


def test_streams_come_from_a_pool_of_32():
    with simulated():
        made = [side_stream() for _ in range(33)]
        assert len({one.cuda_stream for one in made}) == 32
        assert made[32] == made[0]
        assert made[1] != made[0]
        assert torch.cuda.Stream("cuda:0") not in made
        assert 0 not in {one.cuda_stream for one in made}
        assert torch.cuda.default_stream(DEVICE).cuda_stream == 0
        assert hash(made[32]) == hash(made[0])


def test_stream_is_known_by_its_handle():
    with simulated():
        stream = side_stream()
        assert torch.cuda.ExternalStream(stream.cuda_stream, device=1) == stream
        assert (stream.device, stream.device_index) == (torch.device(DEVICE), 1)
        with pytest.raises(
            ValueError, match="stream: expected the cuda_stream of a simulated stream, got 0x7"
        ):
            torch.cuda.ExternalStream(7)


def test_current_device_and_stream_come_back_after_their_blocks():
    with simulated():
        stream = side_stream()
        assert torch.cuda.current_device() == 0
        with torch.cuda.stream(stream):
            assert torch.cuda.current_device() == 1
            assert torch.cuda.current_stream() == stream
            assert torch.cuda.current_stream(0) == torch.cuda.default_stream(0)
            assert torch.ones(1, device="cuda").device.index == 1
        assert torch.cuda.current_device() == 0
        assert torch.cuda.current_stream(1) == torch.cuda.default_stream(1)
        with torch.cuda.device(1), torch.cuda.device(None):
            assert torch.ones(1).cuda().device.index == torch.ones(1).to("cuda").device.index == 1
        with torch.cuda.device_of(torch.ones(1, device=DEVICE)):
            assert torch.cuda.current_device() == 1
        with torch.cuda.device_of(torch.ones(1)):
            assert torch.cuda.current_device() == 0
        torch.cuda.set_device(DEVICE)
        assert torch.cuda.current_device() == 1
        torch.cuda.set_stream(stream)
        assert torch.cuda.current_stream() == stream
        with torch.cuda.stream(None):
            assert torch.cuda.current_stream() == stream


def test_device_that_is_not_there_is_refused_in_torchs_words():
    with simulated():
        for use in (torch.cuda.set_device, torch.cuda.synchronize, torch.cuda.Stream, torch.ones(1).to):
            with pytest.raises(RuntimeError, match="CUDA error: invalid device ordinal"):
                use("cuda:2")
        with pytest.raises(ValueError, match="Expected a cuda device, but got: cpu"):
            torch.cuda.set_device("cpu")


@pytest.mark.parametrize("operation", [lambda x, y: x + y, torch.matmul, lambda x, y: torch.cat([x, y])])
@pytest.mark.parametrize("other", ["cpu", "cuda:0"])
def test_tensors_of_two_devices_are_refused_in_torchs_words(operation, other):
    with simulated():
        x, y = torch.ones(2, 2, device=DEVICE), torch.ones(2, 2, device=other)
        text = f"Expected all tensors to be on the same device, but found at least two devices, {DEVICE} and"
        with pytest.raises(RuntimeError, match=text):
            operation(x, y)


def test_every_thread_has_its_own_current_device_and_stream():
    with simulated():
        torch.cuda.set_device(1)
        torch.cuda.set_stream(side_stream())
        seen = []

        def look():
            seen.append((torch.cuda.current_device(), torch.cuda.current_stream(1).cuda_stream))
            seen.append((torch.ones(2, device=DEVICE) + 1).cpu().tolist())

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(look).result()
        assert seen == [(0, 0), [2, 2]] * 2
        assert torch.cuda.current_device() == 1


def test_processes_have_streams_of_their_own():
    with simulated() as gpu:
        torch.ones(1, device="cuda:0")
        mine = side_stream().queue
        with gpu.entered(object()):
            assert torch.cuda.current_device() == 0
            assert side_stream().queue is not mine
            torch.cuda.synchronize(0)
            assert gpu.num_pending == 1
            torch.cuda.set_device(1)
        assert torch.cuda.current_device() == 0


def test_threads_share_a_stream_and_its_work_stays_in_order():
    with simulated() as gpu:
        totals = torch.zeros(64, device=DEVICE)
        torch.cuda.synchronize(DEVICE)
        stream = side_stream()

        def work():
            for _ in range(20):
                with torch.cuda.stream(stream):
                    totals.mul_(1).add_(1)
                stream.synchronize()

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(work) for _ in range(4)]:
                done.result()
        assert totals.cpu().unique().tolist() == [80]
        assert gpu.num_pending == 0
