"""DLPack in and out of simulated devices."""

import numpy as np
import pytest
import torch
from accelerator_kit import on, outcomes, simulated
from torch.utils import dlpack

DEVICE = "cuda:1"
DTYPES = [torch.bool, torch.uint8, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.complex64]


def side_stream():
    return torch.cuda.Stream(DEVICE)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", ["object", "capsule"])
def test_tensor_comes_back_with_its_memory(how, dtype):
    with simulated():
        sent = on(DEVICE, 4, 3, dtype=dtype)[1:, ::2]
        took = torch.from_dlpack(sent if how == "object" else dlpack.to_dlpack(sent))
        assert took.device == sent.device
        assert (took.shape, took.stride(), took.dtype) == (sent.shape, sent.stride(), sent.dtype)
        assert took.data_ptr() == sent.data_ptr()
        took.zero_()
        assert not sent.cpu().any()


def test_capsule_that_is_taken_without_order_is_poison_and_a_race():
    with simulated(expects_violations=True) as gpu:
        with torch.cuda.stream(side_stream()):
            capsule = dlpack.to_dlpack(torch.ones(2, device=DEVICE))
        took = torch.from_dlpack(capsule)
        assert took.cpu().isnan().all()
        assert "still writes the same memory" in outcomes(gpu)


class Producer:
    """Exports a tensor by the protocol; notes for which stream."""

    def __init__(self, tensor):
        self.tensor = tensor
        self.streams = []

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()

    def __dlpack__(self, *, stream=None, **options):
        self.streams.append(stream)
        return self.tensor.__dlpack__(stream=stream)


def test_consumer_passes_its_stream_and_that_waits():
    with simulated():
        stream = side_stream()
        with torch.cuda.stream(side_stream()):
            producer = Producer(torch.ones(2, device=DEVICE))
            with torch.cuda.stream(stream):
                torch.cuda.current_stream()
            took = torch.from_dlpack(producer)
            assert took.cpu().tolist() == [1, 1]
        assert producer.streams == [torch.cuda.Stream(queue=took_stream(producer)).cuda_stream]


def took_stream(producer):
    """The stream on which the producer's tensor was made."""
    return producer.tensor.allocation.block.pool


@pytest.mark.parametrize(("handle", "waits"), [("own", True), (1, True), (-1, False), (None, False)])
def test_stream_of_the_handle_waits_for_the_current_one(handle, waits):
    with simulated(expects_violations=not waits):
        consumer, producer = side_stream(), side_stream()
        with torch.cuda.stream(producer):
            tensor = torch.ones(2, device=DEVICE)
            capsule = tensor.__dlpack__(stream=consumer.cuda_stream if handle == "own" else handle)
        reader = consumer if handle == "own" else torch.cuda.default_stream(DEVICE)
        took = torch.from_dlpack(capsule)
        with torch.cuda.stream(reader):
            assert (took.cpu().tolist() == [1, 1]) is waits


def test_memory_that_is_exported_is_not_handed_out_again():
    with simulated() as gpu:
        tensor = torch.ones(256, device=DEVICE)
        address = tensor.data_ptr()
        capsule = dlpack.to_dlpack(tensor)
        del tensor
        assert gpu.devices[1].memory.allocated_bytes == 1024
        assert torch.zeros(256, device=DEVICE).data_ptr() != address
        took = torch.from_dlpack(capsule)
        del capsule
        assert took.cpu().eq(1).all()
        del took
        assert gpu.devices[1].memory.allocated_bytes == 0


def test_tensors_of_the_host_are_exchanged_as_ever():
    with simulated():
        array = np.arange(3.0)
        assert torch.from_dlpack(array).tolist() == [0, 1, 2]
        tensor = torch.ones(2)
        assert torch.from_dlpack(dlpack.to_dlpack(tensor)).data_ptr() == tensor.data_ptr()
        assert torch.from_dlpack(tensor).device.type == "cpu"


def test_device_says_cuda_and_its_number():
    with simulated():
        assert torch.ones(1, device=DEVICE).__dlpack_device__() == (2, 1)


def test_numpy_is_refused_in_torchs_words_unless_it_is_forced():
    with simulated():
        tensor = torch.ones(2, device=DEVICE)
        for use in (tensor.numpy, lambda: np.asarray(tensor)):
            with pytest.raises(TypeError, match="can't convert cuda:1 device type tensor to numpy"):
                use()
        assert tensor.numpy(force=True).tolist() == [1, 1]


@pytest.mark.parametrize("how", ["object", "capsule"])
def test_an_error_passes_on_while_an_imported_tensor_is_freed(how):
    with simulated() as gpu:
        for _ in range(20):
            sent = on(DEVICE, 2)
            with pytest.raises(RuntimeError, match="invalid for input of size"):
                torch.from_dlpack(sent if how == "object" else dlpack.to_dlpack(sent)).reshape(7, 7)
        del sent
        assert gpu.devices[1].memory.allocated_bytes == 0
