"""What stands for torch's CUDA while it lasts, and that nothing of it stays."""

import copy
import re
import threading
from unittest import mock

import pytest
import torch
from accelerator_kit import module, simulated
from torch import nn

from kindaware.testing.accelerator import SimulatedAccelerator

DEVICE = "cuda:1"
PLACES = [
    *(torch, torch.cuda, torch.cuda.memory, torch.cuda.streams, torch.cuda.random, torch.cuda.nvtx),
    *(torch.utils.dlpack, torch.serialization, torch._utils, torch.jit, torch.autograd),
    *(torch.UntypedStorage, torch.jit._script.RecursiveScriptModule, threading.Thread),
    *([torch.accelerator] if hasattr(torch, "accelerator") else []),
]
DRIVER = r"(?i)driver|not compiled|not linked|no accelerator|ATen_cuda|libcuda"


def state():
    """Everything that an accelerator may change."""
    names = [dict(vars(place)) for place in PLACES]
    modes = torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()
    settings = [torch.__future__.get_swap_module_params_on_conversion(), torch.backends.cudnn.enabled]
    settings += [torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()]
    return names, modes, settings, SimulatedAccelerator._active


class StopError(Exception):
    """Ends a block."""


@pytest.mark.parametrize("raises", [False, True])
def test_torch_is_its_own_again(raises):
    before = state()
    try:
        with simulated():
            assert state() != before
            torch.ones(1, device=DEVICE)
            if raises:
                raise StopError
    except StopError:
        pass
    assert state() == before
    with pytest.raises(Exception, match=DRIVER):
        torch.ones(1, device="cuda:0")


def test_torch_is_its_own_again_when_the_start_fails():
    before = state()
    accelerator = SimulatedAccelerator(1)
    with (
        mock.patch.object(
            torch.__future__, "set_swap_module_params_on_conversion", side_effect=[StopError, None]
        ),
        pytest.raises(StopError),
        accelerator.installed(lambda *_: None),
    ):
        pass
    assert state() == before


def test_only_one_accelerator_at_a_time():
    with (
        simulated(),
        pytest.raises(
            RuntimeError, match="simulated accelerator: expected to be the only one in the process"
        ),
        SimulatedAccelerator(1).installed(lambda *_: None),
    ):
        pass
    with simulated():
        assert torch.cuda.is_available()


def test_one_accelerator_after_another():
    for number in (1, 2):
        with simulated(number):
            assert torch.cuda.device_count() == number
            assert torch.cuda.is_available()
    with simulated(0):
        assert not torch.cuda.is_available()


def test_what_is_left_over_says_that_its_harness_is_gone():
    with simulated():
        tensor = torch.ones(2, device=DEVICE)
        event = torch.cuda.Event()
    for use in (event.record, tensor.cpu, lambda: tensor + 1):
        with pytest.raises(RuntimeError, match="expected to be used inside its harness, got a use outside"):
            use()


def test_use_in_a_thread_that_is_nobodys_says_what_to_do():
    accelerator = SimulatedAccelerator(1)
    with accelerator.installed(lambda *_: None):
        assert torch.cuda.is_available()
        with pytest.raises(
            NotImplementedError, match="expected CUDA to be used by a model, while the harness"
        ):
            torch.ones(1, device="cuda:0")


def test_functions_that_are_not_simulated_are_refused_by_name():
    refused = []
    with simulated():
        for name in torch.cuda.__all__:
            function = getattr(torch.cuda, name)
            if getattr(function, "__name__", "") == "refuse" or hasattr(function, "__wrapped__"):
                with pytest.raises(NotImplementedError, match=rf"a function that it has, got \S+\.{name};"):
                    function()
                refused.append(name)
    assert {"ipc_collect", "memory_snapshot", "make_graphed_callables", "utilization"} <= set(refused)
    assert not {"Stream", "synchronize", "memory_allocated", "get_device_name"} & set(refused)


def text_of_error(function):
    """Call a function without arguments; gives the text of the error, if there is one."""
    try:
        function()
    except Exception as error:
        return str(error)
    return ""


def test_no_public_function_of_torch_cuda_asks_for_a_driver():
    """Each one, called without arguments: it works, or the error is not the driver's."""
    with simulated():
        for name in sorted(torch.cuda.__all__):
            function = getattr(torch.cuda, name)
            if callable(function) and not name.endswith(("Storage", "Tensor")):
                text = text_of_error(function).lower()
                assert not re.search(DRIVER, text), (name, text)


def test_properties_of_a_device():
    with simulated(memory_bytes=1 << 20):
        assert torch.cuda.get_device_name(1) == "simulated GPU 1"
        properties = torch.cuda.get_device_properties(DEVICE)
        assert (properties.name, properties.total_memory) == ("simulated GPU 1", 1 << 20)
        assert (properties.major, properties.minor) == torch.cuda.get_device_capability()
        assert torch.cuda.is_bf16_supported()
        assert torch.cuda.can_device_access_peer(0, 1)
        assert torch.cuda.is_initialized()
        torch.cuda.init()
        torch.cuda.nvtx.range_push("part")
        torch.cuda.nvtx.range_pop()
        with torch.cuda.nvtx.range("part"):
            assert "allocated" in torch.cuda.memory_summary()
            assert torch.cuda.memory_stats(1)["allocated_bytes.all.current"] == 0


@pytest.mark.skipif(not hasattr(torch, "accelerator"), reason="this torch has no torch.accelerator")
def test_torch_accelerator_is_the_simulated_one():
    with simulated():
        assert torch.accelerator.is_available()
        assert torch.accelerator.current_accelerator().type == "cuda"
        assert torch.accelerator.device_count() == 2
        torch.accelerator.set_device_index(1)
        assert torch.accelerator.current_device_index() == torch.cuda.current_device() == 1
        assert torch.accelerator.current_stream() == torch.cuda.current_stream()
        late = torch.ones(1, device=torch.accelerator.current_accelerator()).to("cpu", non_blocking=True)
        torch.accelerator.synchronize()
        assert late.item() == 1


def test_compile_is_refused():
    with (
        simulated(),
        pytest.raises(NotImplementedError, match=r"expected a function that it has, got torch\.compile"),
    ):
        torch.compile(nn.Linear(1, 1))


def test_sparse_tensors_are_refused():
    with (
        simulated(),
        pytest.raises(NotImplementedError, match="expected dense tensors, got sparse_coo_tensor"),
    ):
        torch.sparse_coo_tensor(torch.tensor([[0]]), torch.tensor([1.0]), (2,), device=DEVICE)


class Net(nn.Module):
    """Tied weights, buffers, a list of modules."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(3)
        self.own = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.norm(self.second(self.first(x))) * self.own


@pytest.mark.parametrize(
    "there",
    [lambda net: net.to(DEVICE), lambda net: net.cuda(1), lambda net: net.to(torch.ones(1, device=DEVICE))],
)
@pytest.mark.parametrize("back", [lambda net: net.cpu(), lambda net: net.to("cpu")])
def test_module_that_moves_keeps_its_parameters_and_buffers(there, back):
    x = torch.ones(2, 3)
    with simulated(), torch.no_grad():
        net = module("cpu", Net())
        wanted, before = net(x), dict(net.named_parameters())
        assert there(net) is net
        assert {one.device for one in [*net.parameters(), *net.buffers()]} == {torch.device(DEVICE)}
        assert all(one is before[name] for name, one in net.named_parameters())
        assert all(isinstance(one, nn.Parameter) for one in net.parameters())
        assert net.second.weight is net.first.weight
        torch.testing.assert_close(net(x.to(DEVICE)).cpu(), wanted)
        other = copy.deepcopy(net)
        assert other.second.weight is other.first.weight is not net.first.weight
        assert isinstance(other.own, nn.Parameter)
        back(net)
        assert all(one is before[name] and type(one) is nn.Parameter for name, one in net.named_parameters())
        torch.testing.assert_close(net(x), wanted)
        torch.testing.assert_close(other(x.to(DEVICE)).cpu(), wanted)


def test_module_that_moves_between_devices_and_dtypes_keeps_its_parameters():
    with simulated(), torch.no_grad():
        net = Net().to("cuda:0")
        weight = net.first.weight
        assert net.to(DEVICE, torch.float16).first.weight is weight
        assert (weight.device, weight.dtype) == (torch.device(DEVICE), torch.float16)


def test_data_of_a_parameter_can_be_replaced():
    with simulated():
        net = nn.Linear(2, 2)
        weight = net.weight
        net.weight.data = torch.ones(2, 2, device=DEVICE)
        assert net.weight is weight
        assert weight.device == torch.device(DEVICE)
        net.weight.data = torch.zeros(2, 2)
        assert net.weight is weight
        assert weight.device.type == "cpu"
        weight.data = torch.ones(2, 2)
        assert weight.tolist() == [[1, 1], [1, 1]]


def test_tensor_prints_its_values_and_its_device():
    with simulated():
        assert repr(torch.ones(2, device=DEVICE)) == "tensor([1., 1.], device='cuda:1', simulated)"
        assert f"{torch.tensor(2.5, device=DEVICE):.2f}" == "2.50"
