"""What goes in and comes out on the real server: every data type, shapes, and only what was asked for."""

import numpy as np
import pytest
import tritonclient.grpc as grpcclient

pytestmark = pytest.mark.server

TYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BF16": None,
}


@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (0, 4), (2, 0)], ids=str)
def test_echo_of_every_data_type_keeps_every_bit(client, shape):
    random = np.random.default_rng(1)
    raw, inputs = {}, []
    for name, dtype in TYPES.items():
        size = 2 if dtype is None else np.dtype(dtype).itemsize
        highest = 2 if name == "BOOL" else 256
        raw[name] = random.integers(0, highest, int(np.prod(shape)) * size, dtype=np.uint8).tobytes()
        tensor = grpcclient.InferInput(f"IN_{name}", list(shape), name)
        tensor._raw_content = raw[name]  # BF16 has no numpy type to go through
        inputs.append(tensor)

    result = client.grpc.infer("echo", inputs, client_timeout=60)

    response = result.get_response()
    answers = {one.name: (one, response.raw_output_contents[n]) for n, one in enumerate(response.outputs)}
    for name in TYPES:
        output, content = answers[f"OUT_{name}"]
        assert (output.datatype, tuple(output.shape)) == (name, shape)
        assert content == raw[name]


def test_outputs_that_are_not_contiguous_arrive_right(client):
    array = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    answer = client.infer("views", INPUT=array)
    np.testing.assert_array_equal(answer["STRIDED"], array)
    np.testing.assert_array_equal(answer["EXPANDED"], np.broadcast_to(array[:1], array.shape))
    np.testing.assert_array_equal(answer["TRANSPOSED"], array.transpose(0, 2, 1))


@pytest.mark.parametrize("outputs", [["TRANSPOSED"], ["EXPANDED", "STRIDED"]], ids=str)
def test_execute_sends_only_the_outputs_that_were_asked_for(client, outputs):
    answer = client.infer("views", outputs, INPUT=np.ones((1, 2, 3), np.float32))
    assert sorted(answer) == sorted(outputs)
