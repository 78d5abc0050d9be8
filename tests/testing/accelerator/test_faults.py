"""Devices that fail, kernels that aren't there, and faults on demand."""

import pytest
import torch
from accelerator_kit import module, simulated
from torch import nn

from kindaware.testing.accelerator.machine import errors as _errors

DEVICE = "cuda:1"
ASSERT = "CUDA error: device-side assert triggered"


def index_out_of_range():
    return torch.ones(3, device=DEVICE)[torch.tensor([5], device=DEVICE)]


def test_device_side_assert_shows_at_the_next_wait_and_stays():
    with simulated() as gpu:
        found = index_out_of_range()
        again = found + 1
        with pytest.raises(_errors.AcceleratorError, match=ASSERT) as raised:
            again.cpu()
        assert "aten::index" in str(raised.value)
        for use in (
            lambda: torch.cuda.synchronize(DEVICE),
            lambda: torch.ones(1, device=DEVICE),
            lambda: torch.ones(1).to(DEVICE),
            lambda: torch.cuda.Stream(DEVICE),
            lambda: again + 1,
        ):
            with pytest.raises(_errors.AcceleratorError, match=ASSERT):
                use()
        assert gpu.num_pending == 0
        assert torch.ones(1, device="cuda:0").item() == 1


@pytest.mark.parametrize(
    "bad",
    [
        lambda: nn.functional.embedding(torch.tensor([9], device=DEVICE), torch.ones(3, 2, device=DEVICE)),
        lambda: torch.ones(3, device=DEVICE).gather(0, torch.tensor([9], device=DEVICE)),
        lambda: torch.ones(3, device=DEVICE).index_fill_(0, torch.tensor([9], device=DEVICE), 1),
    ],
    ids=["embedding", "gather", "index_fill_"],
)
@pytest.mark.parametrize(
    "wait", [lambda: torch.cuda.synchronize(DEVICE), lambda: torch.ones(1, device=DEVICE).item()]
)
def test_kernels_that_get_a_wrong_index_are_asserts(bad, wait):
    with simulated():
        bad()
        with pytest.raises(_errors.AcceleratorError, match=ASSERT):
            wait()


def test_lose_fails_everything_on_that_device_with_the_given_words():
    with simulated() as gpu:
        torch.ones(1, device=DEVICE)
        gpu.lose(1, "CUDA error: an illegal memory access was encountered")
        assert gpu.num_pending == 0
        with pytest.raises(_errors.AcceleratorError, match=r"^CUDA error: an illegal memory access"):
            torch.ones(1, device=DEVICE)
        gpu.lose(1, "CUDA error: another one")
        with pytest.raises(_errors.AcceleratorError, match="an illegal memory access"):
            torch.cuda.synchronize(DEVICE)
        with gpu.of_server():
            assert torch.ones(1, device=DEVICE).item() == 1


def test_lost_device_ends_its_captures():
    with simulated() as gpu, torch.cuda.device(1), torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda.CUDAGraph().capture_begin()
        assert torch.cuda.is_current_stream_capturing()
        gpu.lose(1)
        assert not torch.cuda.is_current_stream_capturing()


def test_fault_is_raised_at_the_call_of_its_number():
    names = []

    def fault(number, name):
        names.append(name)
        return ValueError("mine") if number == 3 else None

    with simulated(fault=fault) as gpu:
        x = torch.ones(2, device=DEVICE)
        with pytest.raises(ValueError, match="mine"):
            x + 1
        assert (x + 1).cpu().tolist() == [2, 2]
        assert names[:3] == ["aten::ones", "allocate", "aten::add.Tensor"]
        assert gpu.num_calls == len(names)


def test_fault_that_is_a_cuda_error_loses_the_device():
    error = _errors.cuda_error("unspecified launch failure")
    with simulated(fault=lambda number, name: error if number == 2 else None):
        with pytest.raises(_errors.AcceleratorError, match="unspecified launch failure"):
            torch.ones(2, device=DEVICE)
        with pytest.raises(_errors.AcceleratorError, match="unspecified launch failure"):
            torch.cuda.synchronize(DEVICE)
        torch.cuda.synchronize("cuda:0")


def test_views_and_what_the_server_does_are_no_calls():
    with simulated() as gpu:
        x = torch.ones(2, 3, device=DEVICE)
        before = gpu.num_calls
        assert x.T.detach()[None, 1:].expand(4, 2, 2).shape == (4, 2, 2)
        torch.cuda.synchronize(DEVICE)
        with gpu.of_server():
            x + 1
        assert gpu.num_calls == before + 1


def test_operation_that_only_cuda_has_is_refused_with_its_name():
    with simulated() as gpu:
        q = torch.ones(1, 2, 4, 8, device=DEVICE)
        with pytest.raises(
            NotImplementedError,
            match="simulated accelerator: expected an operation that torch has for the CPU too, got "
            "aten::_scaled_dot_product_efficient_attention",
        ):
            torch.ops.aten._scaled_dot_product_efficient_attention(q, q, q, None, False)
        assert torch.ones(1, device=DEVICE).item() == 1
        assert gpu.devices[1].errors == {}


@pytest.fixture
def own_operators():
    """Operators of a library of kernels, with shapes on meta."""
    library = torch.library.Library("accelerator_tests", "DEF")

    def refuse(tensor):
        raise RuntimeError("\"halve_cpu\" not implemented for 'Half'")

    for name, kernel in (("halve", lambda tensor: tensor / 2), ("refuse", refuse)):
        library.define(f"{name}(Tensor x) -> Tensor")
        library.impl(name, kernel, "CPU")
        library.impl(name, torch.empty_like, "Meta")
    yield torch.ops.accelerator_tests
    library._destroy()


def test_operators_of_other_libraries_work_with_their_kernels_for_the_cpu(own_operators):
    with simulated() as gpu:
        halved = own_operators.halve(torch.ones(2, device=DEVICE))
        assert gpu.num_pending
        assert halved.cpu().tolist() == [0.5, 0.5]


def test_dtype_for_which_the_cpu_has_no_kernel_is_named_when_it_is_waited_for(own_operators):
    with simulated():
        own_operators.refuse(torch.ones(2, device=DEVICE))
        with pytest.raises(
            NotImplementedError,
            match='operation that torch has for the CPU too, got accelerator_tests::refuse "halve_cpu" not',
        ):
            torch.cuda.synchronize(DEVICE)


def test_wrong_arguments_are_an_error_at_once_and_leave_the_device_alone():
    with simulated():
        x = torch.ones(2, 3, device=DEVICE)
        for wrong in (lambda: x @ x, lambda: x.view(5), lambda: torch.cat([x, x[0]]), lambda: x[7]):
            with pytest.raises((RuntimeError, IndexError), match=r"."):
                wrong()
        assert x.sum().item() == 6


def test_sync_debug_mode_error_makes_operations_that_wait_raise():
    with simulated():
        x = torch.ones(2, device=DEVICE)
        torch.cuda.set_sync_debug_mode("error")
        assert torch.cuda.get_sync_debug_mode() == 2
        for waits in (x.cpu, lambda: x.sum().item(), x.nonzero, lambda: bool(x[0])):
            with pytest.raises(RuntimeError, match="called a synchronizing CUDA operation"):
                waits()
        torch.cuda.set_sync_debug_mode(0)
        assert x.cpu().tolist() == [1, 1]


@pytest.mark.parametrize(
    "factory",
    [torch.zeros, torch.ones, torch.empty, torch.rand, lambda n, device: torch.arange(n, device=device)],
)
def test_factories_do_not_wait(factory):
    with simulated() as gpu:
        torch.ones(2, device=DEVICE)
        factory(3, device=DEVICE)
        assert gpu.timeline.num_done == 0


def test_gradients_are_refused():
    with simulated():
        net = module(DEVICE, nn.Linear(2, 1)).train()
        loss = net(torch.ones(1, 2, device=DEVICE)).sum()
        assert not loss.requires_grad
        for use in (loss.backward, lambda: torch.autograd.backward(loss)):
            with pytest.raises(
                NotImplementedError, match=r"simulated accelerator: expected .* got .*backward"
            ):
                use()


@pytest.mark.parametrize(
    ("words", "is_lost"),
    [
        ("invalid configuration argument", False),
        ("too many resources requested for launch\nCompile with ...", False),
        ("operation not permitted when stream is capturing", False),
        ("unspecified launch failure\nwhile capturing", True),
        ("an illegal memory access was encountered", True),
    ],
)
def test_fault_loses_the_device_where_cuda_says_that_it_is_sticky(words, is_lost):
    with simulated() as gpu:
        gpu.fault = lambda number, name: _errors.cuda_error(words)
        with pytest.raises(_errors.AcceleratorError, match=words.partition("\n")[0]):
            torch.cuda.synchronize(DEVICE)
        gpu.fault = None
        if is_lost:
            with pytest.raises(_errors.AcceleratorError, match=words.partition("\n")[0]):
                torch.cuda.synchronize(DEVICE)
        else:
            torch.cuda.synchronize(DEVICE)
            assert torch.ones(1, device=DEVICE).item() == 1
