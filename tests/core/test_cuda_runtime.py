"""Which torch.cuda calls the CUDA runtime makes, in order. What CUDA does with them needs a GPU."""

import contextlib
import warnings

import pytest
import torch
from core_kit import Doubler, start

from kindaware import ConfigError
from kindaware._device.runtime import CpuRuntime, CudaRuntime, count_devices, open_runtime
from kindaware._device.staging import PinnedStaging
from kindaware._placement.placement import Placement

GPU1 = torch.device("cuda", 1)
ALL_DEVICES = {"kindaware.model_devices": "all"}
STICKY = getattr(torch, "AcceleratorError", RuntimeError)  # a class of its own from torch 2.8 on


@pytest.fixture
def calls(monkeypatch):
    """Put notes in the place of torch.cuda's functions; a host with two GPUs."""
    log = []

    def note(name, value=None):
        return lambda *args: log.append((name, *args)) or value

    class Stream:
        def __init__(self, device):
            log.append(("Stream", device))

        synchronize = note("stream.synchronize")

    class Event:
        def record(self, stream):
            log.append(("event.record", stream))

        def synchronize(self):
            log.append(("event.synchronize",))

    def context(name):
        @contextlib.contextmanager
        def enter(what):
            log.append((f"enter {name}", what))
            yield
            log.append((f"leave {name}", what))

        return enter

    class CUDAGraph:
        replay = "queue it again"

        def pool(self):
            return self, "pool"

        def reset(self):
            log.append(("reset", self))

    @contextlib.contextmanager
    def graph(graph, **options):
        log.append(("begin capture", graph, options))
        try:
            yield
        finally:
            log.append(("end capture",))

    for name in ("set_device", "empty_cache", "synchronize", "set_sync_debug_mode"):
        monkeypatch.setattr(torch.cuda, name, note(name))
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 1)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", CUDAGraph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", context("device"))
    monkeypatch.setattr(torch.cuda, "stream", context("stream"))
    return log


@pytest.fixture
def runtime(calls):
    runtime = CudaRuntime(GPU1)
    assert calls == []
    runtime.activate()
    return runtime


def test_activate_makes_the_gpu_current_before_anything_else(runtime, calls):
    assert calls == [("set_device", GPU1), ("Stream", GPU1)]


def test_scope_enters_device_and_stream_and_leaves_both(runtime, calls):
    calls.clear()
    with pytest.raises(ValueError, match="inside"), runtime.scope():
        raise ValueError("inside")
    assert [name for name, _ in calls] == ["enter device", "enter stream"]
    calls.clear()
    with runtime.scope():
        calls.append(("inside", None))
    assert [name for name, _ in calls] == [
        "enter device",
        "enter stream",
        "inside",
        "leave stream",
        "leave device",
    ]
    assert calls[0][1] == GPU1
    assert calls[1][1] is runtime.stream


def test_wait_records_on_the_stream_and_waits_for_that(runtime, calls):
    calls.clear()
    runtime.wait()
    assert calls == [("event.record", runtime.stream), ("event.synchronize",)]


def test_synchronize_waits_for_every_stream_of_the_device(runtime, calls):
    calls.clear()
    runtime.synchronize(GPU1)
    assert calls == [("synchronize", GPU1)]


def test_release_memory_empties_the_cache(runtime, calls):
    calls.clear()
    runtime.release_memory()
    assert calls == [("empty_cache",)]


def test_forbid_waits_ends_with_the_mode_that_was_there(runtime, calls):
    calls.clear()
    with runtime.forbid_waits():
        calls.append("inside")
    assert calls == [("set_sync_debug_mode", "error"), "inside", ("set_sync_debug_mode", 1)]
    with pytest.raises(ValueError, match="inside"), runtime.forbid_waits():
        raise ValueError("inside")
    assert calls[-1] == ("set_sync_debug_mode", 1)


def test_forbid_waits_hides_what_torch_says_about_the_mode(runtime, monkeypatch):
    def warn(mode):
        if mode == "error":
            warnings.warn("Synchronization debug mode is a prototype feature", UserWarning, stacklevel=1)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", warn)
    filters = list(warnings.filters)
    with runtime.forbid_waits():
        assert warnings.filters == filters


def test_capture_is_on_the_instances_stream_and_shares_the_memory_of_the_first(runtime, calls):
    calls.clear()
    assert [runtime.capture(lambda: calls.append("work")) for _ in range(3)] == ["queue it again"] * 3
    first = calls[0][1]
    options = {"stream": runtime.stream, "capture_error_mode": "thread_local"}
    assert [call[2] for call in calls[::3]] == [
        {**options, "pool": None},
        {**options, "pool": (first, "pool")},
        {**options, "pool": (first, "pool")},
    ]
    assert calls[1::3] == ["work"] * 3
    assert calls[2::3] == [("end capture",)] * 3
    assert len({id(call[1]) for call in calls[::3]}) == 3


def test_capture_that_fails_leaves_an_empty_graph_that_is_kept_and_not_shared(runtime, calls):
    calls.clear()
    with pytest.raises(ZeroDivisionError):
        runtime.capture(lambda: 1 / 0)
    lost = calls[0][1]
    assert calls[1:] == [("end capture",), ("reset", lost)]
    assert runtime._lost_graphs == [lost]  # torch's allocator keeps a pointer to it
    runtime.capture(lambda: None)
    assert calls[3][2]["pool"] is None


def test_host_capture_is_the_work_itself():
    done = []
    replay = CpuRuntime().capture(lambda: done.append(1))
    with CpuRuntime().forbid_waits():
        replay()
    assert done == [1]


def test_host_copy_is_done_at_once():
    target = torch.zeros(2)
    CpuRuntime().copy(target, torch.ones(2))
    assert target.tolist() == [1, 1]


def test_copy_does_not_wait(runtime):
    class Target:
        def copy_(self, source, **options):
            self.got = (source, options)

    target = Target()
    runtime.copy(target, "source")
    assert target.got == ("source", {"non_blocking": True})


def test_new_pinned_asks_for_page_locked_bytes(runtime, monkeypatch):
    monkeypatch.setattr(torch, "empty", lambda *shape, **options: (shape, options))
    assert runtime.new_pinned(64) == ((64,), {"dtype": torch.uint8, "pin_memory": True})


def test_stream_before_activate_raises(calls):
    with pytest.raises(RuntimeError, match=r"expected activate\(\) before its first use"):
        _ = CudaRuntime(GPU1).stream


@pytest.mark.parametrize(
    ("error", "asks"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (STICKY("CUDA error: device-side assert triggered"), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), False),
        (torch.OutOfMemoryError("CUDA error: out of memory"), False),
        (STICKY("CUDA error: out of memory\nCUDA kernel errors might be reported later"), False),
        (STICKY("CUDA error: operation not permitted when stream is capturing\nSearch for it"), False),
        (STICKY("CUDA error: dependency created on uncaptured work in another stream"), False),
        (STICKY("CUDA error: unspecified launch failure\nwhile capturing"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (STICKY("CUDA error: invalid configuration argument\nCUDA kernel errors might be"), True),
        (RuntimeError("CUDA error: too many resources requested for launch"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("CUDA error"), False),
    ],
)
@pytest.mark.parametrize("is_lost", [False, True])
def test_is_fault_asks_the_device_after_an_error_of_cuda(calls, monkeypatch, error, asks, is_lost):
    def synchronize(device):
        calls.append(("synchronize", device))
        if is_lost:
            raise STICKY("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    assert CudaRuntime(GPU1).is_fault(error) is (asks and is_lost)
    assert calls == [("synchronize", GPU1)] * asks
    assert CpuRuntime().is_fault(error) is False


def test_is_fault_once_a_device_is_lost_asks_nothing_more(calls, monkeypatch):
    def synchronize(device):
        calls.append(device)
        if device != GPU1:
            raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    other = torch.device("cuda", 0)
    runtime = CudaRuntime(GPU1, [other])
    error = STICKY("CUDA error: unspecified launch failure")
    assert [runtime.is_fault(error) for _ in range(3)] == [True] * 3
    assert calls == [GPU1, other]
    assert not runtime.is_fault(ValueError("of the host"))


def test_open_runtime_of_several_gpus_asks_all_of_them(calls):
    gpus = tuple(torch.device("cuda", ordinal) for ordinal in range(2))
    runtime = open_runtime(Placement("MODEL", gpus, moves_modules=False, reason=""))
    assert not runtime.is_fault(STICKY("CUDA error: invalid argument"))
    assert calls == [("synchronize", one) for one in gpus]


def test_open_runtime_goes_by_the_placement(calls):
    gpu = Placement("GPU", (GPU1,), moves_modules=True, reason="")
    cpu = Placement("CPU", (torch.device("cpu"),), moves_modules=True, reason="")
    assert open_runtime(gpu).device == GPU1
    assert isinstance(open_runtime(cpu), CpuRuntime)
    assert calls == []


@pytest.mark.parametrize(("kind", "expected"), [("CPU", 0), ("GPU", 2), ("MODEL", 2)])
def test_count_devices_cpu_never_asks(calls, monkeypatch, kind, expected):
    if kind == "CPU":
        monkeypatch.setattr(torch.cuda, "device_count", pytest.fail)
    assert count_devices(kind) == expected


def test_initialize_gpu_instance_loads_on_its_device_and_stream(calls, caplog):
    class Model(Doubler):
        warmup = "off"

        def load(self):
            calls.append(("load", self.device))

    with caplog.at_level("INFO", logger="kindaware"):
        model = start(Model, kind="GPU", device_id=1)
    assert [name for name, *_ in calls] == [
        "set_device",
        "Stream",
        "enter device",
        "enter stream",
        "load",
        "leave stream",
        "leave device",
        "enter device",  # to place the modules
        "enter stream",
        "leave stream",
        "leave device",
        "synchronize",
    ]
    assert calls[-1] == ("synchronize", GPU1)
    assert (model.device, model.devices) == (GPU1, (GPU1,))
    assert model.cuda_stream is model._kindaware_instance.runtime.stream
    assert isinstance(model._kindaware_instance._device.staging, PinnedStaging)
    assert "kind GPU, device cuda:1, own stream, threads " in caplog.text


@pytest.mark.parametrize(("value", "keeps"), [("cpu", False), ("instance", True)])
def test_initialize_gpu_instance_leaves_outputs_where_output_device_says(calls, value, keeps):
    parameters = {"kindaware.output_device": value, "kindaware.warmup": "off"}
    model = start(kind="GPU", parameters=parameters)
    assert model._kindaware_instance._device.staging._keeps_outputs is keeps


def test_initialize_several_gpus_waits_for_what_load_queued_on_each(calls):
    start(type("Model", (Doubler,), {"warmup": "off"}), kind="MODEL", parameters=ALL_DEVICES)
    assert calls[-2:] == [("synchronize", torch.device("cuda", 0)), ("synchronize", GPU1)]


def test_initialize_gpu_that_is_not_there_raises_before_anything_is_touched(calls):
    with pytest.raises(ConfigError, match="GPU 2 to be visible to torch, got 2 visible devices"):
        start(kind="GPU", device_id=2)
    assert calls == []
