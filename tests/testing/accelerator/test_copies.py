"""Who waits for a copy, and what the other side may do meanwhile."""

import pytest
import torch
from accelerator_kit import on, outcomes, pinned, simulated

DEVICE = "cuda:1"
DTYPES = [
    *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
]


def is_poison(tensor):
    """Whether a host tensor holds what no copy has filled."""
    return torch.equal(tensor.isnan(), torch.ones(tensor.shape, dtype=torch.bool))


def test_copy_to_the_host_non_blocking_is_poison_until_the_stream_is_waited_for():
    with simulated() as gpu:
        there = torch.tensor([1.0, 2.0], device=DEVICE)
        here = there.to("cpu", non_blocking=True)
        assert is_poison(here)
        assert gpu.num_pending == 1
        torch.cuda.synchronize(1)
        assert here.tolist() == [1, 2]
        assert gpu.num_pending == 0


@pytest.mark.parametrize("is_pinned", [False, True])
def test_copy_to_host_memory_that_the_program_owns_is_late_too(is_pinned):
    with simulated():
        here = torch.zeros(2, pin_memory=is_pinned)
        here.copy_(torch.tensor([1.0, 2.0], device=DEVICE), non_blocking=True)
        assert is_poison(here)
        torch.cuda.current_stream(1).synchronize()
        assert here.tolist() == [1, 2]


def test_copy_of_integers_is_minus_one_until_then():
    with simulated():
        here = torch.tensor([7, 8], device=DEVICE).to("cpu", non_blocking=True)
        assert here.tolist() == [-1, -1]
        torch.cuda.synchronize(1)
        assert here.tolist() == [7, 8]


@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_of_every_dtype_bring_back_what_was_sent(dtype):
    sent = on("cpu", 3, 5, dtype=dtype)
    with simulated():
        there = sent.pin_memory().to(DEVICE, non_blocking=True)
        late = there.to("cpu", non_blocking=True)
        torch.cuda.synchronize(1)
        assert torch.equal(late, sent)
        assert torch.equal(there.clone().cpu(), sent)
        assert (there.dtype, there.element_size()) == (dtype, sent.element_size())


def test_copy_from_page_locked_memory_reads_when_the_stream_gets_there():
    with simulated(expects_violations=True) as gpu:
        source = pinned(1, 2)
        there = source.to(DEVICE, non_blocking=True)
        source.fill_(9)
        assert there.cpu().tolist() == [9, 9]
        assert "the host changed memory from which a queued copy had still to read" in outcomes(gpu)


def test_copy_from_page_locked_memory_may_be_written_after_the_wait():
    with simulated():
        source = pinned(1, 2)
        there = source.to(DEVICE, non_blocking=True)
        torch.cuda.synchronize(1)
        source.fill_(9)
        assert there.cpu().tolist() == [1, 2]


def test_host_write_is_found_when_another_copy_of_the_same_memory_follows():
    with simulated(expects_violations=True) as gpu:
        source = pinned(1, 2)
        one = source.to(DEVICE, non_blocking=True)
        source.fill_(9)
        other = source.to(DEVICE, non_blocking=True)
        torch.cuda.synchronize(1)
        assert len(gpu.violations) == 1
        assert one.cpu().tolist() == other.cpu().tolist() == [9, 9]


def test_host_write_beside_the_part_that_is_copied_is_allowed():
    with simulated():
        source = torch.zeros(4, pin_memory=True)
        there = torch.empty(4, device=DEVICE)
        for rows in (slice(0, 2), slice(2, 4)):
            source[rows] = float(rows.start + 1)
            there[rows].copy_(source[rows], non_blocking=True)
        assert there.cpu().tolist() == [1, 1, 3, 3]


def test_host_write_through_a_numpy_array_of_page_locked_memory_is_found():
    with simulated(expects_violations=True):
        source = pinned(1, 2)
        array = source.numpy()
        there = torch.from_numpy(array).to(DEVICE, non_blocking=True)
        array[0] = 5
        assert there.cpu().tolist() == [5, 2]


def test_host_write_to_the_target_of_a_queued_copy_is_found():
    with simulated(expects_violations=True) as gpu:
        target = torch.zeros(2, pin_memory=True)
        target.copy_(torch.tensor([1.0, 2.0], device=DEVICE), non_blocking=True)
        target[0] = 5
        torch.cuda.synchronize(1)
        assert "the host wrote to memory that a queued copy was about to fill" in outcomes(gpu)
        assert target.tolist() == [1, 2]


def test_copy_to_the_host_and_on_to_a_device_on_one_stream_needs_no_wait():
    with simulated():
        between = torch.zeros(2, pin_memory=True)
        between.copy_(torch.tensor([1.0, 2.0], device=DEVICE), non_blocking=True)
        there = between.to(DEVICE, non_blocking=True)
        between.copy_(torch.tensor([3.0, 4.0], device=DEVICE), non_blocking=True)
        torch.cuda.synchronize(1)
        assert between.tolist() == [3, 4]
        assert there.cpu().tolist() == [1, 2]


def test_copy_from_pageable_memory_is_staged_at_once_and_not_waited_for():
    with simulated() as gpu:
        source = torch.tensor([1.0, 2.0])
        there = source.to(DEVICE, non_blocking=True)
        assert gpu.num_pending == 1
        source.fill_(9)
        assert there.cpu().tolist() == [1, 2]


@pytest.mark.parametrize("is_pinned", [False, True])
def test_blocking_copy_waits_for_the_stream(is_pinned):
    with simulated() as gpu:
        source = torch.ones(2, pin_memory=is_pinned)
        before = torch.ones(2, device=DEVICE)
        after = before + 1
        assert gpu.num_pending
        there = source.to(DEVICE)
        assert gpu.num_pending == 0
        after += there
        assert after.cpu().tolist() == [3, 3]
        assert gpu.num_pending == 0


def test_blocking_copy_waits_for_its_own_stream_only():
    with simulated() as gpu:
        with torch.cuda.stream(torch.cuda.Stream(1)):
            torch.ones(2, device=DEVICE)
        torch.ones(2).to(DEVICE)
        assert gpu.num_pending == 1


@pytest.mark.parametrize(
    ("change", "is_late"),
    [
        (lambda tensor: tensor, True),
        (lambda tensor: tensor.double(), True),  # converted on the device
        (lambda tensor: tensor.T, False),  # made contiguous on the host first
        (lambda tensor: tensor[:1].expand(2, 2), False),
    ],
    ids=["as it is", "another dtype", "strided", "broadcast"],
)
def test_copy_to_a_device_reads_the_source_late_only_where_no_copy_is_made_before(change, is_late):
    with simulated(expects_violations=is_late):
        source = change(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).pin_memory()
        assert source.is_contiguous()
        there = torch.empty(2, 2, device=DEVICE)
        moved = change(torch.tensor([[1.0, 2.0], [3.0, 4.0]]).pin_memory())
        moved = moved if moved.dtype == torch.float32 else source
        there.copy_(moved, non_blocking=True)
        wanted = moved.tolist()
        moved.untyped_storage().fill_(0)
        assert (there.cpu().tolist() == wanted) is not is_late


@pytest.mark.parametrize("target", ["strided", "dense"])
def test_copy_to_a_strided_target_on_the_host_waits(target):
    with simulated() as gpu:
        here = torch.zeros(2, 4, pin_memory=True)
        here = here[:, ::2] if target == "strided" else here[:, :2].contiguous().pin_memory()
        here.copy_(torch.ones(2, 2, device=DEVICE), non_blocking=True)
        assert bool(gpu.num_pending) is (target == "dense")
        torch.cuda.synchronize(1)
        assert here.tolist() == [[1, 1], [1, 1]]


def test_copy_of_the_same_dense_strides_is_late():
    with simulated() as gpu:
        there = torch.ones(1, 2, 3, 3, device=DEVICE).to(memory_format=torch.channels_last)
        here = torch.zeros(1, 2, 3, 3, pin_memory=True).to(memory_format=torch.channels_last)
        here.copy_(there, non_blocking=True)
        assert gpu.num_pending
        torch.cuda.synchronize(1)
        assert here.eq(1).all()


def test_copy_between_devices_orders_their_streams_and_not_the_host():
    with simulated() as gpu:
        source = torch.tensor([1.0, 2.0], pin_memory=True).to("cuda:0", non_blocking=True)
        target = source.to("cuda:1")
        assert gpu.num_pending
        target += 1
        assert target.cpu().tolist() == [2, 3]


def test_copy_between_devices_waits_for_what_the_target_was_used_for():
    with simulated():
        source, target = torch.ones(2, device="cuda:0"), torch.zeros(2, device="cuda:1")
        before = target + 5
        target.copy_(source)
        assert before.cpu().tolist() == [5, 5]
        assert target.cpu().tolist() == [1, 1]


def test_copy_of_wrong_shapes_fails_at_once():
    with simulated() as gpu:
        with pytest.raises(RuntimeError, match="expand"):
            torch.empty(2, device=DEVICE).copy_(torch.ones(3))
        assert gpu.num_pending == 0


def test_page_locked_memory_is_known_by_its_place_and_forgotten_with_it():
    with simulated() as gpu:
        one = torch.ones(4).pin_memory()
        assert one.is_pinned()
        assert one[1:].is_pinned()
        assert one.pin_memory() is one
        assert not torch.ones(4).is_pinned()
        assert not one.clone().is_pinned()
        assert torch.empty_like(one, pin_memory=True).is_pinned()
        assert gpu.host.pinned_bytes == 16
        del one
        assert gpu.host.pinned_bytes == 0
        with pytest.raises(RuntimeError, match="only dense CPU tensors can be pinned"):
            torch.ones(1, device=DEVICE).pin_memory()
        assert not torch.ones(1, device=DEVICE).is_pinned()
