"""Tensors made of numpy arrays, and those that the server makes."""

import numpy as np
import pytest
import torch
from stand_in_kit import new_request

from kindaware.testing.stand_in import WireTensor, answer_of

NUMERIC = ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]


def sent(pb, *tensors):
    """Give the arrays that a client would get, in order."""
    return [output.value() for output in answer_of(pb.InferenceResponse(list(tensors)), None).outputs]


@pytest.mark.parametrize("dtype", NUMERIC)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)], ids=str)
def test_tensor_of_every_dtype_and_shape_keeps_array(pb, dtype, shape):
    array = np.ones(shape, dtype)
    tensor = pb.Tensor("a", array)

    assert tensor.as_numpy() is array
    assert tensor.shape() == list(shape)
    assert tensor.is_cpu()
    assert tensor.__dlpack_device__() == (1, 0)
    (value,) = sent(pb, tensor)
    assert value.dtype == array.dtype
    assert value.shape == shape
    assert (value == array).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(2, np.complex64),
        np.array(["a"]),
        np.zeros(2, "M8[s]"),
        np.zeros(2, "V4"),
        np.zeros(2, np.longdouble),
        np.zeros(2, ">f4"),
    ],
    ids=lambda array: str(array.dtype),
)
def test_tensor_of_other_dtypes_fails(pb, array):
    with pytest.raises(pb.TritonModelException, match=r"^NumPy dtype is not supported\.$"):
        pb.Tensor("a", array)


@pytest.mark.parametrize("array", [[1], 1.0, None, memoryview(b"a"), torch.zeros(1), np.float32(1)])
def test_tensor_of_no_array_fails(pb, array):
    with pytest.raises(TypeError, match=r"^__init__\(\): incompatible constructor arguments"):
        pb.Tensor("a", array)


def test_tensor_arguments_are_positional_only(pb):
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        pb.Tensor(name="a", array=np.zeros(1))
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        pb.Tensor("a", arg1=np.zeros(1))


def test_tensor_with_empty_name_fails_after_the_type_check(pb):
    with pytest.raises(pb.TritonModelException, match=r"^Tensor name cannot be an empty string\.$"):
        pb.Tensor("", np.zeros(1))
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        pb.Tensor("", None)


def test_tensor_of_masked_array_fails(pb):
    with pytest.raises(AttributeError, match="has no attribute 'c_contiguous'"):
        pb.Tensor("a", np.ma.MaskedArray([1.0]))


def test_tensor_name_takes_bytes_and_fails_in_the_getter_only(pb):
    assert pb.Tensor("é".encode(), np.zeros(1)).name() == "é"
    assert pb.Tensor(bytearray(b"b"), np.zeros(1)).name() == "b"
    tensor = pb.Tensor(b"\xff", np.zeros(1))
    with pytest.raises(UnicodeDecodeError, match="can't decode byte 0xff in position 0"):
        tensor.name()
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        pb.Tensor("\ud800", np.zeros(1))


def test_tensor_shape_is_a_new_list(pb):
    tensor = pb.Tensor("a", np.zeros((2, 3)))
    tensor.shape().append(9)
    assert tensor.shape() == [2, 3]


def test_triton_dtype_always_fails(pb):
    with pytest.raises(
        TypeError, match="Unable to convert function return value to a Python type! The signature was"
    ):
        pb.Tensor("a", np.zeros(1)).triton_dtype()


def test_tensor_of_readonly_array_keeps_the_flag(pb):
    array = np.zeros(2)
    array.flags.writeable = False
    assert not pb.Tensor("a", array).as_numpy().flags.writeable


def test_tensor_of_contiguous_array_is_read_when_sent(pb):
    array = np.array([1.0, 2.0])
    tensor = pb.Tensor("a", array)
    array[0] = 50
    assert sent(pb, tensor)[0].tolist() == [50, 2]


def test_tensor_of_other_layout_is_a_snapshot(pb):
    array = np.arange(6.0).reshape(2, 3).T
    tensor = pb.Tensor("a", array)
    array[0, 0] = 50

    assert tensor.as_numpy() is not array
    assert tensor.as_numpy().flags.c_contiguous
    assert sent(pb, tensor)[0].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_tensor_sent_twice_repeats_the_first_data(pb):
    array = np.array([1.0])
    tensor = pb.Tensor("a", array)
    before = torch.from_dlpack(tensor)
    first = sent(pb, tensor)[0]
    array[0] = 2

    assert sent(pb, tensor)[0].tolist() == first.tolist() == [1]
    assert torch.from_dlpack(tensor).tolist() == [1]
    assert before.tolist() == [2]
    assert tensor.as_numpy() is array


def test_tensor_sent_once_is_changed_through_dlpack_only(pb):
    tensor = pb.Tensor("a", np.array([1.0]))
    sent(pb, tensor)
    torch.from_dlpack(tensor)[0] = 9
    assert sent(pb, tensor)[0].tolist() == [9]
    assert tensor.as_numpy().tolist() == [1]


def test_bytes_tensor_is_serialised_when_made(pb):
    array = np.array([["a", b"\x00b"], [1, None]], object)
    tensor = pb.Tensor("a", array)
    array[0, 0] = "changed"

    assert tensor.as_numpy() is array
    (value,) = sent(pb, tensor)
    assert value.tolist() == [[b"a", b"\x00b"], [b"1", b"None"]]


@pytest.mark.parametrize("element", [1.5, True, "é", np.str_("x"), np.float32(2)])
def test_bytes_tensor_sends_other_elements_as_text(pb, element):
    (value,) = sent(pb, pb.Tensor("a", np.array([element], object)))
    assert value.tolist() == [str(element).encode()]


def test_bytes_tensor_of_fixed_width_loses_trailing_zeros(pb):
    array = np.array([b"ab\x00", b"c"], "S3")
    tensor = pb.Tensor("a", array)
    assert tensor.as_numpy() is array
    assert sent(pb, tensor)[0].tolist() == [b"ab", b"c"]


def test_bytes_tensor_without_elements_is_sent(pb):
    (value,) = sent(pb, pb.Tensor("a", np.empty((0, 2), object)))
    assert (value.shape, value.dtype) == ((0, 2), object)


def test_input_array_is_a_private_copy(host, pb):
    tensor = new_request(host).inputs()[0]
    array = tensor.as_numpy()

    assert array is tensor.as_numpy()
    assert (array.flags.writeable, array.flags.owndata, array.base.flags.owndata) == (True, False, True)
    torch.from_dlpack(tensor)[0] = 7
    array[1] = 55
    assert array.tolist() == [0, 55, 2]
    assert torch.from_dlpack(tensor).tolist() == [7, 1, 2]
    assert sent(pb, tensor)[0].tolist() == [7, 1, 2]


def test_input_of_bytes_holds_bytes_in_the_requests_shape(host):
    wire = WireTensor.of("X", np.array([["a", b"b"]], object))
    array = new_request(host, inputs=[wire]).inputs()[0].as_numpy()
    assert array.tolist() == [[b"a", b"b"]]


def test_input_of_bf16_has_no_array(host, pb):
    wire = WireTensor.of("X", torch.tensor([1.5, 2.5], dtype=torch.bfloat16))
    tensor = new_request(host, inputs=[wire]).inputs()[0]

    assert torch.equal(torch.from_dlpack(tensor), torch.tensor([1.5, 2.5], dtype=torch.bfloat16))
    with pytest.raises(
        pb.TritonModelException,
        match=r"^Tensor dtype is BF16 and cannot be converted to NumPy. Use to_dlpack\(\) and from_dlpack",
    ):
        tensor.as_numpy()


def test_input_data_outlive_request_and_tensor(host):
    request = new_request(host)
    array, view = request.inputs()[0].as_numpy(), torch.from_dlpack(request.inputs()[0])
    del request
    assert array.tolist() == view.tolist() == [0, 1, 2]
