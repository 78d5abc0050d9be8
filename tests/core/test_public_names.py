"""What users may import, and how it shows itself."""

import dataclasses

import numpy as np
import pytest
import torch

import kindaware
from kindaware import (
    ConfigError,
    InstanceArgs,
    KindAwareError,
    ModelSpec,
    Placement,
    RequestError,
    TensorSpec,
)
from kindaware._errors import ERROR_CODES, message
from kindaware._tensors.dtypes import DTYPES, find_dtype, triton_name


def test_all_names_what_there_is():
    assert sorted(kindaware.__all__) == [
        "ConfigError",
        "DevicePlacement",
        "Done",
        "InstanceArgs",
        "KindAwareError",
        "KindAwareModel",
        "ModelSpec",
        "Next",
        "Placement",
        "RequestError",
        "RequestInfo",
        "Servable",
        "ServedModels",
        "TensorSpec",
        "graphed",
        "place_module",
        "serve",
    ]
    assert all(hasattr(kindaware, name) for name in kindaware.__all__)


def test_completion_offers_public_names():
    assert set(kindaware.__all__) <= set(dir(kindaware))


def test_a_name_that_there_is_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'kindaware' has no attribute 'serv'"):
        _ = kindaware.serv


@pytest.mark.parametrize("error", [ConfigError, RequestError])
def test_errors_have_one_base_class(error):
    assert issubclass(error, KindAwareError)


@pytest.mark.parametrize("code", ERROR_CODES)
def test_request_error_takes_every_code_of_triton(code):
    assert RequestError("text", code=code).code == code


def test_request_error_defaults_to_invalid_arg_and_keeps_its_text():
    error = RequestError("send a picture")
    assert (str(error), error.code, error.rows) == ("send a picture", "INVALID_ARG", None)


@pytest.mark.parametrize("code", ["", "internal", "INVALID_ARGUMENT", "OK"])
def test_request_error_unknown_code_raises(code):
    with pytest.raises(
        ValueError, match=f"RequestError code: expected one of UNKNOWN, INTERNAL.*, got '{code}'"
    ):
        RequestError("text", code=code)


@pytest.mark.parametrize("rows", [[1, 2], (1, 2), np.array([1, 2]), torch.tensor([1, 2]), range(1, 3)])
def test_request_error_rows_become_whole_numbers(rows):
    rows = RequestError("text", rows=rows).rows
    assert rows == (1, 2)
    assert {type(row) for row in rows} == {int}


def test_request_error_of_a_subclass_without_its_constructor_names_no_rows():
    class BareError(RequestError):
        def __init__(self):
            """Leave the base class's out."""

    error = BareError()
    error.settle()
    assert (error.rows, error.is_unsettled) == (None, False)


@pytest.mark.parametrize("rows", [[1.5], ["1"], [None]])
def test_request_error_rows_no_whole_numbers_raise(rows):
    with pytest.raises(TypeError):
        RequestError("text", rows=rows)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (TensorSpec("INPUT", "FP32", [3, 224, 224]), "TensorSpec('INPUT', 'FP32', [3, 224, 224])"),
        (TensorSpec("M", "TYPE_BOOL", [-1], optional=True), "TensorSpec('M', 'BOOL', [-1], optional=True)"),
    ],
)
def test_tensor_spec_repr_is_what_makes_it(spec, text):
    assert repr(spec) == text
    assert eval(text) == spec
    assert hash(eval(text)) == hash(spec)


def test_tensor_spec_fits_what_it_declares():
    spec = TensorSpec("X", "FP32", [-1, 3])
    assert spec.is_dynamic
    assert [spec.fits(shape) for shape in ([7, 3], [0, 3], [7, 4], [3], [7, 3, 1])] == [True, True] + [
        False
    ] * 3
    assert spec.to_config() == {"name": "X", "data_type": "TYPE_FP32", "dims": [-1, 3]}


@pytest.mark.parametrize("carrier", [InstanceArgs, ModelSpec, Placement, TensorSpec])
def test_carriers_are_frozen(carrier):
    assert dataclasses.is_dataclass(carrier)
    assert carrier.__dataclass_params__.frozen


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes_agree_with_each_other(name):
    dtype = find_dtype(f"TYPE_{name}", "x")
    assert dtype is find_dtype(name, "x")
    assert str(dtype) == name
    if name == "BYTES":
        assert (dtype.torch, dtype.numpy, dtype.in_config) == (None, np.dtype(object), "TYPE_STRING")
        return
    assert triton_name(dtype.torch) == name
    if dtype.numpy is None:
        with pytest.raises(TypeError):
            torch.zeros(1, dtype=dtype.torch).numpy()
    else:
        assert torch.from_numpy(np.zeros(1, dtype.numpy)).dtype is dtype.torch


def test_triton_name_of_a_type_that_triton_lacks_is_torchs():
    assert triton_name(torch.complex64) == "torch.complex64"


def test_message_cuts_parts_that_are_too_long():
    text = message("s" * 9999, expected="e" * 9999, got="g" * 9999, remedy="r" * 9999)
    assert len(text) < 2500
    assert "s...: expected e" in text
    assert text.endswith("r...")
    assert message("s", expected="e", got="g" * 600, remedy="r") == f"s: expected e, got {'g' * 600}; r"
