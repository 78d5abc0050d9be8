"""What the allocator hands out again, when, and how much there is."""

import gc

import pytest
import torch
from accelerator_kit import outcomes, simulated

DEVICE = "cuda:1"
KIB = 256  # elements of a float32 tensor of 1 KiB


def memory_of(gpu):
    return gpu.devices[1].memory


def side_stream():
    return torch.cuda.Stream(DEVICE)


def test_freed_memory_goes_to_the_next_tensor_of_the_stream():
    with simulated() as gpu:
        first = torch.ones(KIB, device=DEVICE)
        address = first.data_ptr()
        del first
        second = torch.ones(KIB, device=DEVICE)
        assert second.data_ptr() == address
        assert memory_of(gpu).reserved_bytes == 1024
        assert memory_of(gpu).num_allocations == 2


def test_freed_memory_is_reused_before_its_work_is_done_and_stays_right_on_one_stream():
    with simulated() as gpu:
        total = torch.zeros(KIB, device=DEVICE)
        for number in range(4):
            total += torch.full((KIB,), float(number), device=DEVICE)
        assert gpu.num_pending
        assert memory_of(gpu).reserved_bytes == 2048
        assert total.cpu()[0] == 6


def test_freed_memory_does_not_go_to_another_stream():
    with simulated():
        first = torch.ones(KIB, device=DEVICE)
        address = first.data_ptr()
        del first
        with torch.cuda.stream(side_stream()):
            assert torch.ones(KIB, device=DEVICE).data_ptr() != address


def use_on(stream, tensor):
    stream.wait_stream(torch.cuda.current_stream(DEVICE))
    with torch.cuda.stream(stream):
        return tensor + 1


def test_memory_that_another_stream_still_uses_is_a_race_when_it_is_reused():
    with simulated(expects_violations=True) as gpu:
        stream, tensor = side_stream(), torch.ones(KIB, device=DEVICE)
        used = use_on(stream, tensor)
        del tensor
        torch.zeros(KIB, device=DEVICE)
        assert f"while {stream.queue!r} still reads the same memory" in outcomes(gpu)
        stream.synchronize()
        del used


def test_record_stream_keeps_memory_until_the_stream_has_done_with_it():
    with simulated():
        stream, tensor = side_stream(), torch.ones(KIB, device=DEVICE)
        address = tensor.data_ptr()
        used = use_on(stream, tensor)
        tensor.record_stream(stream)
        del tensor
        other = torch.zeros(KIB, device=DEVICE)
        assert other.data_ptr() != address
        stream.synchronize()
        assert torch.zeros(KIB, device=DEVICE).data_ptr() == address
        assert used.cpu()[0] == 2


class AtOnce:
    """Does all work as soon as it is queued."""

    def advance(self, busy):
        return busy[0]


def test_recorded_memory_that_is_handed_out_again_comes_after_what_was_done_with_it():
    with simulated() as gpu:
        gpu.timeline.schedule = AtOnce()
        stream, tensor = side_stream(), torch.ones(KIB, device=DEVICE)
        address = tensor.data_ptr()
        used = use_on(stream, tensor)
        tensor.record_stream(stream)
        del tensor
        # Nobody has waited for the stream, but the allocator has asked whether it is done.
        assert torch.zeros(KIB, device=DEVICE).data_ptr() == address
        assert used.cpu()[0] == 2


def test_empty_memory_holds_nothing_of_the_owner_before():
    with simulated():
        torch.ones(KIB, device=DEVICE)
        assert torch.empty(KIB, device=DEVICE).cpu().isnan().all()
        torch.ones(KIB, device=DEVICE)
        assert torch.empty(KIB, dtype=torch.int32, device=DEVICE).cpu().eq(-1).all()


def test_bytes_in_use_are_those_of_living_tensors():
    with simulated() as gpu:
        assert torch.cuda.memory_allocated(DEVICE) == 0
        one, small = torch.ones(KIB, device=DEVICE), torch.ones(1, device=DEVICE)
        view = one[:4]
        assert torch.cuda.memory_allocated(DEVICE) == memory_of(gpu).allocated_bytes == 1024 + 512
        del one
        assert torch.cuda.memory_allocated(DEVICE) == 1024 + 512
        del view, small
        gc.collect()
        assert torch.cuda.memory_allocated(DEVICE) == torch.cuda.memory_allocated("cuda:0") == 0
        assert torch.cuda.memory_reserved(DEVICE) == 1024 + 512
        assert torch.cuda.max_memory_allocated(DEVICE) == memory_of(gpu).peak_bytes == 1024 + 512
        assert torch.cuda.max_memory_reserved(DEVICE) == 1024 + 512
        torch.cuda.empty_cache()
        assert torch.cuda.memory_reserved(DEVICE) == 0
        torch.cuda.reset_peak_memory_stats(DEVICE)
        assert torch.cuda.max_memory_allocated(DEVICE) == torch.cuda.max_memory_reserved(DEVICE) == 0


def test_tensors_are_let_go_without_the_garbage_collector():
    gc.disable()
    try:
        with simulated() as gpu, torch.inference_mode():
            net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU()).to(DEVICE)
            weights = memory_of(gpu).allocated_bytes
            x = torch.ones(2, 8, device=DEVICE)
            x[0] = torch.zeros(8, device=DEVICE)
            torch.cat([net(x), x[x > 0][None, :8]]).sum().item()
            del x
            assert memory_of(gpu).allocated_bytes == weights
    finally:
        gc.enable()


def test_memory_runs_out_at_the_limit_in_torchs_words():
    with simulated(memory_bytes=2048) as gpu:
        held = torch.ones(KIB, device=DEVICE)
        with pytest.raises(
            torch.OutOfMemoryError, match=r"CUDA out of memory\. Tried to allocate 2048 bytes"
        ):
            torch.ones(2 * KIB, device=DEVICE)
        assert memory_of(gpu).limit_bytes == 2048
        del held
        assert torch.ones(2 * KIB, device=DEVICE).cpu()[0] == 1


def test_cached_memory_is_given_up_before_memory_runs_out():
    with simulated(memory_bytes=2048) as gpu:
        torch.ones(KIB // 2, device=DEVICE)
        assert memory_of(gpu).reserved_bytes == 512
        held = torch.ones(2 * KIB, device=DEVICE)
        assert memory_of(gpu).reserved_bytes == 2048
        del held


def test_devices_have_memory_of_their_own():
    with simulated(memory_bytes=1024) as gpu:
        one, other = torch.ones(KIB, device="cuda:0"), torch.ones(KIB, device=DEVICE)
        assert [device.memory.allocated_bytes for device in gpu.devices] == [1024, 1024]
        assert torch.cuda.mem_get_info(DEVICE) == (0, 1024)
        assert torch.cuda.get_device_properties(DEVICE).total_memory == 1024
        del one, other


def test_failed_allocation_takes_nothing():
    with simulated(memory_bytes=1024) as gpu:
        with pytest.raises(torch.OutOfMemoryError):
            torch.ones(2 * KIB, device=DEVICE)
        assert (memory_of(gpu).allocated_bytes, memory_of(gpu).reserved_bytes) == (0, 0)
        assert gpu.num_pending == 0
