import pickle
import sys

import numpy as np
import pytest
from stand_in_kit import open_host


def test_triton_error_keeps_message_and_code(pb):
    error = pb.TritonError(message="nope", code=pb.TritonError.NOT_FOUND)

    assert (error.message(), error.code()) == ("nope", pb.TritonError.NOT_FOUND)
    assert pb.TritonError(b"bytes").message() == "bytes"
    assert pb.TritonError("x").code() is pb.TritonError.INTERNAL


@pytest.mark.parametrize(
    "args", [(None,), (1,), (ValueError("x"),), ("x", 1), ("x", "INTERNAL"), ("x", None), ()]
)
def test_triton_error_of_other_types_fails(pb, args):
    with pytest.raises(TypeError, match=r"__init__\(\): incompatible constructor arguments"):
        pb.TritonError(*args)


def test_triton_error_is_no_exception(pb):
    with pytest.raises(TypeError, match="exceptions must derive from BaseException"):
        raise pb.TritonError("x")


def test_triton_model_exception_is_a_plain_exception(pb, c_module, monkeypatch):
    monkeypatch.setitem(sys.modules, "c_python_backend_utils", c_module)
    error = pb.TritonModelException("x", 2)

    assert type(error).__mro__[1] is Exception
    assert type(error).__module__ == "c_python_backend_utils"
    assert pickle.loads(pickle.dumps(error)).args == ("x", 2)


def test_inference_response_keeps_tensors_and_error(pb):
    tensor, error = pb.Tensor("a", np.zeros(1)), pb.TritonError("x")
    both = pb.InferenceResponse(output_tensors=(tensor,), error=error)

    assert both.has_error()
    assert both.error() is error
    assert both.output_tensors()[0] is tensor
    assert both.output_tensors() is not both.output_tensors()
    assert pb.InferenceResponse().output_tensors() == []
    assert pb.InferenceResponse([tensor]).error() is None
    assert not pb.InferenceResponse([tensor]).has_error()


def test_inference_response_copies_its_list(pb):
    tensors = [pb.Tensor("a", np.zeros(1))]
    response = pb.InferenceResponse(tensors)
    tensors.clear()
    response.output_tensors().clear()

    assert len(response.output_tensors()) == 1


@pytest.mark.parametrize(
    "wrap", [set, dict.fromkeys, iter, lambda one: one[0], lambda _: [1], lambda _: None]
)
def test_inference_response_of_no_sequence_of_tensors_fails(pb, wrap):
    with pytest.raises(TypeError, match=r"__init__\(\): incompatible constructor arguments"):
        pb.InferenceResponse(wrap([pb.Tensor("a", np.zeros(1))]))


def test_inference_response_of_object_array_is_accepted(pb):
    tensors = np.empty(1, object)
    tensors[0] = pb.Tensor("a", np.zeros(1))
    assert len(pb.InferenceResponse(tensors).output_tensors()) == 1


def test_inference_response_with_none_among_tensors_fails(pb):
    with pytest.raises(
        pb.TritonModelException, match="Output tensor for inference response should not be empty"
    ):
        pb.InferenceResponse([None])


@pytest.mark.parametrize("error", ["text", ValueError("x"), 1])
def test_inference_response_with_other_error_fails(pb, error):
    with pytest.raises(TypeError, match=r"__init__\(\): incompatible constructor arguments"):
        pb.InferenceResponse(error=error)


@pytest.mark.parametrize("version", [(24, 10), (25, 1)])
def test_inference_response_parameters_before_25_02_do_not_exist(version):
    _, pb, _ = open_host(server_version=version)

    assert not hasattr(pb.InferenceResponse([]), "parameters")
    with pytest.raises(TypeError, match=r"__init__\(\): incompatible constructor arguments"):
        pb.InferenceResponse([], parameters={})


def test_inference_response_parameters_from_25_02_are_json():
    _, pb, _ = open_host(server_version=(25, 2))

    assert pb.InferenceResponse([], parameters={"a": 1, "b": True}).parameters() == '{"a": 1, "b": true}'
    assert pb.InferenceResponse([]).parameters() == "{}"
    with pytest.raises(pb.TritonModelException, match=r"^Expect N8pybind114dictE, got <class 'list'>$"):
        pb.InferenceResponse([], None, [1])


def test_preferred_memory_takes_the_enum_only(pb):
    pb.PreferredMemory(preferred_memory_type=pb.TRITONSERVER_MEMORY_GPU, preferred_device_id=1)
    with pytest.raises(TypeError, match=r"__init__\(\): incompatible constructor arguments"):
        pb.PreferredMemory(1)
