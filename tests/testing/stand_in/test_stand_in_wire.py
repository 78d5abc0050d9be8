import numpy as np
import pytest
import torch

from kindaware.testing.stand_in import WireTensor

NAMES = {
    "?": "BOOL",
    "u1": "UINT8",
    "u2": "UINT16",
    "u4": "UINT32",
    "u8": "UINT64",
    "i1": "INT8",
    "i2": "INT16",
    "i4": "INT32",
    "i8": "INT64",
    "f2": "FP16",
    "f4": "FP32",
    "f8": "FP64",
}


@pytest.mark.parametrize(("dtype", "name"), NAMES.items())
def test_wire_tensor_of_every_dtype_comes_back(dtype, name):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    wire = WireTensor.of("a", array.T)

    assert (wire.datatype, wire.shape, wire.data) == (name, (3, 2), array.T.tobytes())
    assert wire.value().dtype == array.dtype
    assert (wire.value() == array.T).all()
    assert WireTensor.of("a", torch.from_numpy(array).T) == wire


def test_wire_tensor_of_text_is_utf8():
    wire = WireTensor.of("a", np.array([["é", b"\x00"], ["", "b"]], object))
    assert wire.data == b"\2\0\0\0\xc3\xa9\1\0\0\0\0\0\0\0\0\1\0\0\0b"
    assert wire.value().tolist() == [["é".encode(), b"\0"], [b"", b"b"]]
    assert WireTensor.of("a", np.array(["é", "b"])).value().tolist() == ["é".encode(), b"b"]


def test_wire_tensor_of_bf16_takes_torch_and_bits():
    tensor = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    wire = WireTensor.of("a", tensor)
    assert wire.datatype == "BF16"
    assert torch.equal(wire.value(), tensor)
    assert WireTensor.of("a", tensor.view(torch.int16).numpy().view(np.uint16), "BF16") == wire


def test_wire_tensor_value_is_new_and_writable():
    wire = WireTensor.of("a", np.zeros(2))
    wire.value()[0] = 1
    assert wire.value().tolist() == [0, 0]


def test_wire_tensor_of_other_datatype_fails():
    with pytest.raises(TypeError, match="tensor 'a': expected elements of FP64, got FP32; convert the array"):
        WireTensor.of("a", np.zeros(2, np.float32), "FP64")
    with pytest.raises(TypeError, match="array of complex128: expected one of Triton's data types"):
        WireTensor.of("a", np.zeros(2, complex))
