"""Requests out of a configuration."""

import numpy as np
import pytest
import torch

from kindaware import ConfigError
from kindaware._errors import OptionError
from kindaware._tensors.dtypes import DTYPES
from kindaware.cli._shapes import parse_shapes
from kindaware.cli.profile._inputs import count_requests, make_requests, read_data


def config_of(data_type="TYPE_FP32", dims=(2,), max_batch_size=8):
    inputs = [{"name": "X", "data_type": data_type, "dims": list(dims)}]
    return {"name": "net", "max_batch_size": max_batch_size, "input": inputs}


def make(config, num_requests=2, rows=1, shapes=None, data=None):
    return make_requests(config, num_requests=num_requests, rows=rows, shapes=shapes or {}, data=data or {})


@pytest.mark.parametrize("option", ["X:0:3,224,224", "X:0=3,224,224"])
def test_shape_is_read_as_perf_analyzer_has_it_and_with_an_equals_sign(option):
    assert parse_shapes([option, "M:5"]) == {"X:0": (3, 224, 224), "M": (5,)}


@pytest.mark.parametrize("option", ["X", "X:", ":3", "X:3,-1", "X:3,", "X:a"])
def test_shape_of_another_form_is_refused(option):
    with pytest.raises(ConfigError, match=r"expected an input and the sizes .* like --shape INPUT:3,224,224"):
        parse_shapes([option])


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_random_input_of_every_data_type_is_of_that_type(dtype):
    requests = make(config_of(dtype.in_config, (2, 3)), rows=4)

    assert len(requests) == 2
    for request in requests:
        assert tuple(request["X"].shape) == (4, 2, 3)
        assert request["X"].dtype == (dtype.numpy or dtype.torch)


def test_random_input_differs_between_requests_and_not_between_runs():
    first, second = make(config_of()), make(config_of())

    assert not np.array_equal(first[0]["X"], first[1]["X"])
    assert np.array_equal(first[1]["X"], second[1]["X"])


def test_random_integers_are_such_as_a_small_vocabulary_has():
    numbers = make(config_of("TYPE_INT64", (1000,)))[0]["X"]

    assert (numbers.min(), numbers.max()) == (0, 9)


def test_open_sizes_are_those_of_the_shape():
    assert make(config_of(dims=(3, -1)), shapes={"X": (3, 7)})[0]["X"].shape == (1, 3, 7)


def test_input_of_a_model_that_does_not_batch_has_no_rows():
    (request,) = make(config_of(max_batch_size=0), num_requests=1)

    assert request["X"].shape == (2,)


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ({}, r"input 'X': expected sizes .* dims \[3, -1\], got none; say them, like --shape X:3,8"),
        ({"X": (4, 7)}, r"got \[4, 7\]; say them"),
        ({"X": (3,)}, r"got \[3\]; say them"),
        ({"Z": (3,)}, r"--shape Z: expected an input of model 'net': X, got 'Z'"),
    ],
)
def test_shape_that_does_not_fit_is_refused(shapes, text):
    with pytest.raises(ConfigError, match=text):
        make(config_of(dims=(3, -1)), shapes=shapes)


def test_rows_of_a_file_are_taken_in_turn_and_again(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.float32).reshape(3, 2))

    data = read_data([f"X={tmp_path / 'x.npy'}"])
    requests = make(config_of(), num_requests=2, rows=2, data=data)

    assert [request["X"].tolist() for request in requests] == [[[0, 1], [2, 3]], [[4, 5], [0, 1]]]


def test_text_of_a_file_becomes_bytes():
    data = {"X": np.array([["a", "ü"]])}

    assert make(config_of("TYPE_STRING"), data=data)[0]["X"].tolist() == [[b"a", "ü".encode()]]


@pytest.mark.parametrize(
    ("array", "got"),
    [
        (np.zeros((3, 2)), r"got \[3, 2\] of float64"),
        (np.zeros((3, 4), "f"), r"got \[3, 4\]"),
        (np.zeros((0, 2), "f"), r"got \[0, 2\]"),
    ],
)
def test_array_that_does_not_fit_is_refused(array, got):
    with pytest.raises(ConfigError, match=rf"--data X: expected an array \['N', 2\] of FP32, {got}"):
        make(config_of(), data={"X": array})


@pytest.mark.parametrize("option", ["X", "=x.npy"])
def test_data_without_an_input_or_a_file_is_a_wrong_option(option):
    with pytest.raises(OptionError, match="expected an input and a file, got"):
        read_data([option])


def test_file_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"expected a file of numpy's"):
        read_data(["X=nowhere.npy"])


def test_file_with_objects_is_not_unpickled(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object))

    with pytest.raises(ConfigError, match="allow_pickle=False"):
        read_data([f"X={tmp_path / 'x.npy'}"])


@pytest.mark.parametrize(
    ("max_batch_size", "rows", "requests", "number"),
    [(64, 1, None, 32), (64, 4, None, 16), (64, 4, 3, 3), (64, 64, None, 1), (0, 1, None, 1)],
)
def test_number_of_requests_is_what_one_execute_takes(max_batch_size, rows, requests, number):
    assert count_requests("net", max_batch_size, rows, requests) == number


@pytest.mark.parametrize(
    ("max_batch_size", "rows", "requests", "text"),
    [
        (64, 4, 17, "at most 64 rows, its max_batch_size, in one execute, got 68 rows"),
        (64, 65, None, "got 65 rows"),
        (0, 1, 2, "one request of one row in an execute, since its max_batch_size is 0, got 2 rows"),
        (0, 2, None, "got 2 rows"),
    ],
)
def test_more_requests_than_a_server_hands_over_are_refused(max_batch_size, rows, requests, text):
    with pytest.raises(ConfigError, match=text):
        count_requests("net", max_batch_size, rows, requests)


def test_bfloat16_comes_as_a_tensor_of_torch():
    assert make(config_of("TYPE_BF16"))[0]["X"].dtype is torch.bfloat16
