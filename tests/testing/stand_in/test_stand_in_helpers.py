"""The plain Python part, compared with the server's own file where the wheel that has it is installed."""

import copy
import importlib.util
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from stand_in_kit import RecordingHost, new_request, new_response

from kindaware.testing.stand_in import new_module

NAMES = ["name", "data_type", "dims", "optional"]


@pytest.fixture(scope="module")
def real():
    """Triton's own file: its plain Python part works outside of a server."""
    found = importlib.util.find_spec("pytriton")
    if found is None:
        pytest.skip("no server's file: pip install 'kindaware[server]'")
    path = Path(
        found.submodule_search_locations[0], "tritonserver/backends/python/triton_python_backend_utils.py"
    )
    spec = importlib.util.spec_from_file_location("_servers_own", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def plain():
    return new_module(RecordingHost())


def outcome(call):
    """Give a result, or type and text of an error, so that both can be compared."""
    try:
        result = call()
    except Exception as error:
        return type(error), str(error)
    return (result.dtype, result.tolist()) if isinstance(result, np.ndarray) else result


TYPES = [
    np.bool_,
    np.uint8,
    np.uint64,
    np.int8,
    np.int32,
    np.int64,
    np.float16,
    np.float64,
    np.object_,
    np.bytes_,
    np.str_,
    np.longlong,
    np.generic,
    bool,
    int,
    float,
    object,
    complex,
    "float32",
    None,
    5,
    [1],
    np.dtype("S5"),
    np.dtype("S"),
    np.dtype("O"),
    np.dtype("q"),
    np.dtype(">f4"),
    np.dtype("f4"),
    np.dtype("U3"),
    np.dtype("?"),
    np.dtype("M8[s]"),
]


def test_types_are_the_servers(plain, real):
    assert plain.TRITON_STRING_TO_NUMPY == real.TRITON_STRING_TO_NUMPY
    for name in [*real.TRITON_STRING_TO_NUMPY, "TYPE_BF16", "TYPE_BYTES", "FP32"]:
        assert outcome(lambda: plain.triton_string_to_numpy(name)) == outcome(  # noqa: B023 - called at once
            lambda: real.triton_string_to_numpy(name)  # noqa: B023
        )
    for number in [*range(-1, 17), 99, None, "x", np.int64(3)]:
        assert plain.triton_to_numpy_type(number) is real.triton_to_numpy_type(number)
    for type_ in TYPES:
        assert plain.numpy_to_triton_type(type_) == real.numpy_to_triton_type(type_), type_


def test_types_table():
    module = new_module(RecordingHost())
    assert module.triton_string_to_numpy("TYPE_BOOL") is bool
    assert module.triton_string_to_numpy("TYPE_STRING") is np.object_
    assert [module.numpy_to_triton_type(module.triton_to_numpy_type(number)) for number in range(15)] == [
        None,
        *range(1, 14),
        None,
    ]
    with pytest.raises(KeyError, match="TYPE_BF16"):
        module.triton_string_to_numpy("TYPE_BF16")


ARRAYS = [
    np.array([]),
    np.zeros((0, 2)),
    np.zeros(3),
    np.array("x"),
    np.array(b"x", object),
    np.array([b"a", "é", 1, None], object),
    np.array([b"ab\0"], "S5"),
    np.array([["a", "b"], ["c", "d"]], object).T,
    np.empty(0, object),
]


@pytest.mark.parametrize("array", ARRAYS, ids=str)
def test_serialize_byte_tensor_is_the_servers(plain, real, array):
    assert outcome(lambda: plain.serialize_byte_tensor(array)) == outcome(
        lambda: real.serialize_byte_tensor(array)
    )


ENCODED = [
    b"",
    b"\1\0\0\0a",
    b"\1\0\0\0a\0\0\0\0\2\0\0\0bc",
    b"\1\0",
    b"\5\0\0\0a",
    b"\1\0\0\0a\1\0\0\0",
    bytearray(b"\1\0\0\0a"),
]


@pytest.mark.parametrize("encoded", ENCODED, ids=repr)
def test_deserialize_bytes_tensor_is_the_servers(plain, real, encoded):
    ours = outcome(lambda: plain.deserialize_bytes_tensor(encoded))
    assert ours == outcome(lambda: real.deserialize_bytes_tensor(encoded))


def test_deserialize_bytes_tensor_undoes_serialize(plain):
    array = np.array([b"", b"a\0b", b"xyz"], object)
    assert plain.deserialize_bytes_tensor(plain.serialize_byte_tensor(array)).tolist() == array.tolist()
    with pytest.raises(struct.error):
        plain.deserialize_bytes_tensor(b"\5\0\0\0a")


def test_tensors_are_found_by_name(pb, host):
    request, response = new_request(host), new_response(pb, "Y", "Z")
    assert pb.get_input_tensor_by_name(request, "X") is request.inputs()[0]
    assert pb.get_input_tensor_by_name(inference_request=request, name="W") is None
    assert pb.get_output_tensor_by_name(response, "Z") is response.output_tensors()[1]
    assert pb.get_output_tensor_by_name(inference_response=response, name="W") is None


CONFIGS = [
    {},
    {"input": [{"name": "a"}], "output": [{"name": "b"}]},
    {"input": [{}], "output": [{}]},
    {"model_transaction_policy": {"decoupled": True}},
    {"model_transaction_policy": {}},
    "{}",
    json.dumps({"input": [{"name": "a"}], "output": [], "model_transaction_policy": {"decoupled": True}}),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("name", ["a", "b"])
def test_configurations_are_read_as_the_server_does(plain, real, config, name):
    for function in ("get_input_config_by_name", "get_output_config_by_name"):
        ours, theirs = getattr(plain, function), getattr(real, function)
        assert outcome(lambda: ours(config, name)) == outcome(lambda: theirs(config, name))  # noqa: B023
    assert outcome(lambda: plain.using_decoupled_model_transaction_policy(config)) == outcome(
        lambda: real.using_decoupled_model_transaction_policy(config)
    )


X = {"name": "X", "data_type": "TYPE_FP32", "dims": [1]}
FULL = {**X, "format": "FORMAT_NONE", "optional": False}
GIVEN = [
    X,
    {**X, "dims": (1,)},
    {**X, "dims": [2]},
    {**X, "dims": []},
    {**X, "data_type": "TYPE_INT8"},
    {**X, "data_type": "TYPE_INVALID"},
    {**X, "optional": True},
    {**X, "optional": False},
    {**X, "foo": 1},
    {"foo": 1},
    {},
    {"name": "X"},
    {"name": "X", "data_type": "TYPE_FP32"},
    {"name": "X", "dims": [1]},
    {"data_type": "TYPE_FP32", "dims": [1]},
    {**X, "name": "other", "optional": "yes"},
]
DECLARED = [
    [],
    [FULL],
    [{**FULL, "dims": []}],
    [{**FULL, "data_type": "TYPE_INVALID"}],
    [{k: v for k, v in FULL.items() if k != "optional"}],
]


def run(module, config, method, *args):
    """Call a method of ModelConfig; gives its outcome and the configuration after it."""
    made = module.ModelConfig(
        json.dumps({"name": "m", "max_batch_size": 0, "input": [], "output": [], **config})
    )
    return outcome(lambda: getattr(made, method)(*copy.deepcopy(args))), made.as_dict()


@pytest.mark.parametrize("declared", DECLARED, ids=["none", "full", "no dims", "invalid", "no optional"])
@pytest.mark.parametrize("kind", ["input", "output"])
@pytest.mark.parametrize("given", GIVEN, ids=str)
def test_model_config_add_is_the_servers(plain, real, given, kind, declared):
    ours = run(plain, {kind: declared}, f"add_{kind}", given)
    assert ours == run(real, {kind: declared}, f"add_{kind}", given)


@pytest.mark.parametrize(
    ("config", "method", "args"),
    [
        ({"max_batch_size": 8}, "set_max_batch_size", (4,)),
        ({"max_batch_size": 8}, "set_max_batch_size", (9,)),
        ({"max_batch_size": 8}, "set_max_batch_size", ("9",)),
        ({}, "set_dynamic_batching", ()),
        ({"dynamic_batching": {"a": 1}}, "set_dynamic_batching", ()),
        ({"sequence_batching": {}}, "set_dynamic_batching", ()),
        ({"ensemble_scheduling": {}}, "set_dynamic_batching", ()),
        *[
            ({} if old is None else {"model_transaction_policy": old}, "set_model_transaction_policy", (new,))
            for old in (None, {}, {"decoupled": True}, {"decoupled": False})
            for new in (
                {"decoupled": True},
                {"decoupled": False},
                {},
                {"foo": 1},
                {"decoupled": True, "foo": 1},
                5,
            )
        ],
    ],
)
def test_model_config_setters_are_the_servers(plain, real, config, method, args):
    assert run(plain, config, method, *args) == run(real, config, method, *args)


def test_model_config_keeps_one_dict_and_the_callers_tensors(plain):
    config = plain.ModelConfig('{"name": "m", "max_batch_size": 0, "input": [], "output": []}')
    given = dict(X)
    config.add_input(given)
    config.set_max_batch_size(4)

    assert config.as_dict() is config.as_dict() is config._model_config
    assert config.as_dict()["input"][0] is given
    with pytest.raises(
        ValueError, match="configuration specified max_batch_size 4, but in auto-complete-config"
    ):
        config.set_max_batch_size(2)
