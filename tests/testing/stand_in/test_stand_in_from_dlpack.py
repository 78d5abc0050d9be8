"""DLPack into a tensor, with real capsules."""

import numpy as np
import pytest
import torch

from kindaware.testing.stand_in import TritonContractError, answer_of
from kindaware.testing.stand_in.wire import dlpack as _dlpack

TORCH = [
    torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32,
    torch.int64, torch.float16, torch.float32, torch.float64, torch.bfloat16,
]  # fmt: skip


class Producer:
    """Says that its tensor is on a device, and keeps how it was asked for it."""

    def __init__(self, device, capsule=None):
        self.device, self.capsule, self.calls = device, capsule, []

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        return self.capsule


def sent(pb, tensor):
    return answer_of(pb.InferenceResponse([tensor]), None).outputs[0].value()


@pytest.mark.parametrize("dtype", TORCH, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 0, 3), (2, 3), (1, 2, 1, 2, 3)], ids=str)
def test_from_dlpack_of_every_dtype_and_shape_comes_back(pb, dtype, shape):
    source = torch.ones(shape).to(dtype)
    tensor = pb.Tensor.from_dlpack("a", source)

    assert tensor.shape() == list(shape)
    assert torch.equal(torch.from_dlpack(tensor), source)
    assert torch.equal(torch.as_tensor(sent(pb, tensor)), source)
    if dtype is not torch.bfloat16:
        assert tensor.as_numpy().tolist() == source.tolist()


def test_from_dlpack_array_is_a_copy_and_data_are_the_producers(pb):
    source = torch.tensor([1.0, 2.0])
    tensor = pb.Tensor.from_dlpack("a", source)
    tensor.as_numpy()[0] = 40
    source[1] = 50

    assert tensor.as_numpy().tolist() == [40, 2]
    assert tensor.as_numpy() is tensor.as_numpy()
    assert torch.from_dlpack(tensor).tolist() == [1, 50]
    assert sent(pb, tensor).tolist() == [1, 50]
    source[0] = 60
    assert sent(pb, tensor).tolist() == [1, 50]


def test_from_dlpack_respects_the_offset(pb):
    tensor = pb.Tensor.from_dlpack("a", torch.arange(6.0)[2:5])
    assert tensor.as_numpy().tolist() == [2, 3, 4]


def test_from_dlpack_of_capsule_consumes_it(pb):
    capsule = pb.Tensor("a", np.arange(3)).to_dlpack()
    assert 'capsule object "dltensor"' in repr(capsule)
    assert pb.Tensor.from_dlpack("b", capsule).as_numpy().tolist() == [0, 1, 2]
    assert 'capsule object "used_dlpack"' in repr(capsule)


def test_from_dlpack_of_consumed_capsule_is_a_contract_error(host, pb):
    for consume in (lambda capsule: pb.Tensor.from_dlpack("b", capsule), torch.utils.dlpack.from_dlpack):
        capsule = pb.Tensor("a", np.arange(3)).to_dlpack()
        consume(capsule)
        with pytest.raises(
            TritonContractError, match="the server would crash: tensor 'c' comes from a DLPack capsule"
        ):
            pb.Tensor.from_dlpack("c", capsule)
    assert len(host.violations) == 2


def test_from_dlpack_of_numpy_is_a_contract_error(host, pb):
    array = np.zeros(3)
    for producer in (array, array.__dlpack__(), Producer((1, 0), array.__dlpack__())):
        with pytest.raises(TritonContractError, match=r"from a numpy array .* use Tensor\(name, array\)"):
            pb.Tensor.from_dlpack("a", producer)
    assert len(host.violations) == 3


@pytest.mark.parametrize(
    "source",
    [
        torch.arange(6.0)[::2],
        torch.arange(12.0).view(4, 3)[::2],
        torch.arange(12.0).view(4, 3)[:, :2],
        torch.arange(24.0).view(2, 4, 3)[:, -1:, :],
        torch.ones(3).expand(2, 3),
    ],
    ids=["step", "rows", "columns", "last", "expanded"],
)
def test_from_dlpack_with_wrong_stride_of_dimension_0_is_a_contract_error(host, pb, source):
    with pytest.raises(TritonContractError, match="send wrong data without a word: tensor 'a' of shape"):
        pb.Tensor.from_dlpack("a", source)
    assert len(host.violations) == 1


def test_from_dlpack_with_any_stride_of_a_single_row_is_right(host, pb):
    source = torch.arange(12.0).view(4, 3)[:1, :2]
    assert pb.Tensor.from_dlpack("a", source).as_numpy().tolist() == [[0, 1]]
    assert not host.violations


@pytest.mark.parametrize(
    "source",
    [torch.arange(6.0).view(2, 3).T, torch.zeros(2, 3, 4).transpose(1, 2), torch.zeros(1, 4, 4)[:, :, ::2]],
)
def test_from_dlpack_with_wrong_inner_stride_fails(host, pb, source):
    with pytest.raises(
        pb.TritonModelException, match=r"^DLPack tensor is not contiguous\. Only contiguous DLPack tensors"
    ):
        pb.Tensor.from_dlpack("a", source)
    assert not host.violations


@pytest.mark.parametrize(
    "source", [torch.zeros(2, dtype=torch.complex64), torch.zeros(2, dtype=torch.complex128)]
)
def test_from_dlpack_of_other_dtypes_fails(pb, source):
    with pytest.raises(pb.TritonModelException, match=r"^Dtype is invalid\.$"):
        pb.Tensor.from_dlpack("a", source)


@pytest.mark.parametrize(
    "producer", [None, [1], 5, type("Half", (), {"__dlpack__": lambda self, stream: None})()]
)
def test_from_dlpack_of_no_producer_fails(pb, producer):
    with pytest.raises(
        pb.TritonModelException,
        match=r"^Provided tensor is not supported\. Tensor must be a DLPack capsule         or have `__dl",
    ):
        pb.Tensor.from_dlpack("a", producer)


def test_from_dlpack_checks_the_name_first(pb):
    with pytest.raises(pb.TritonModelException, match="Tensor name cannot be an empty string"):
        pb.Tensor.from_dlpack("", None)


def test_from_dlpack_is_positional_and_unbound(pb):
    tensor = pb.Tensor("a", np.zeros(1))
    with pytest.raises(TypeError, match=r"^from_dlpack\(\): incompatible function arguments"):
        tensor.from_dlpack("b", tensor)
    with pytest.raises(TypeError, match=r"^from_dlpack\(\): incompatible function arguments"):
        pb.Tensor.from_dlpack(name="b", tensor=tensor)


@pytest.mark.parametrize("device", [(1, 0), [1, 0], np.array([3, 0]), (3, 1)], ids=str)
def test_from_dlpack_asks_host_memory_without_a_stream(pb, device):
    producer = Producer(device, pb.Tensor("a", np.arange(3)).to_dlpack())
    tensor = pb.Tensor.from_dlpack("b", producer)

    assert producer.calls == [((), {"stream": None})]
    assert tensor.__dlpack_device__() == (1, 0)


@pytest.mark.parametrize(
    "device", [(1,), (1, 0, 5), None, "ab", (1.0, 0), ("1", "0"), (1, None), 7, (2**40, 0)], ids=str
)
def test_from_dlpack_with_malformed_device_fails(pb, device):
    with pytest.raises(RuntimeError, match=r"^Unable to cast Python instance"):
        pb.Tensor.from_dlpack("a", Producer(device))


def test_from_dlpack_of_other_devices_fails(pb):
    with pytest.raises(
        pb.TritonModelException, match=r"^DLDevice type 4 is not support by Python backend\.$"
    ):
        pb.Tensor.from_dlpack("a", Producer((4, 0)))
    if not torch.cuda.is_available():
        with pytest.raises(pb.TritonModelException, match=r"^Failed to get current CUDA device id\.$"):
            pb.Tensor.from_dlpack("a", Producer((2, 0)))


def handmade(dtype=(2, 32), device=(1, 0)):
    """Make a capsule of three elements that says what no producer here would say."""
    memory = np.arange(3, dtype=np.float32)
    return _dlpack.export_capsule(memory.ctypes.data, (3,), dtype, device, memory)


def test_from_dlpack_of_pinned_memory_becomes_plain_host_memory(pb):
    tensor = pb.Tensor.from_dlpack("a", handmade(device=(3, 1)))
    assert tensor.is_cpu()
    assert tensor.__dlpack_device__() == (1, 0)
    assert tensor.as_numpy().tolist() == [0, 1, 2]


def test_from_dlpack_of_gpu_memory_has_no_array(pb):
    tensor = pb.Tensor.from_dlpack("a", handmade(device=(2, 1)))
    assert not tensor.is_cpu()
    assert tensor.__dlpack_device__() == (2, 1)
    with pytest.raises(
        pb.TritonModelException, match=r"^Tensor is stored in GPU and cannot be converted to NumPy\.$"
    ):
        tensor.as_numpy()


def test_from_dlpack_of_bf16_with_other_width_fails(pb):
    with pytest.raises(pb.TritonModelException, match=r"^Expected BF16 tensor to have 16 bits, but had: 32$"):
        pb.Tensor.from_dlpack("a", handmade(dtype=(4, 32)))


def test_from_dlpack_of_vectors_fails(pb):
    capsule = handmade()
    _dlpack._Managed.from_address(_dlpack._get_pointer(capsule, b"dltensor")).tensor.dtype.lanes = 2
    with pytest.raises(pb.TritonModelException, match=r"^Dtype is invalid\.$"):
        pb.Tensor.from_dlpack("a", capsule)


def test_from_dlpack_of_producer_without_capsule_fails(pb):
    with pytest.raises(TypeError, match="Object of type 'int' is not an instance of 'capsule'"):
        pb.Tensor.from_dlpack("a", Producer((1, 0), 5))


def test_from_dlpack_passes_the_producers_errors_on(host, pb):
    with pytest.raises(BufferError):
        pb.Tensor.from_dlpack("a", np.zeros(2, np.dtype("V4")))
    assert not host.violations
    with pytest.raises(BufferError, match="require gradient"):
        pb.Tensor.from_dlpack("a", torch.zeros(2, requires_grad=True))
