"""Outputs as the commands print them."""

import json

import numpy as np
import pytest

from kindaware.cli._outputs import read_text, write_json, write_outputs


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numbers_that_json_does_not_have_are_null(dtype):
    array = np.array([[1.5, np.nan], [np.inf, -np.inf]], dtype)
    assert json.loads(write_json({"Y": array}), parse_constant=pytest.fail) == {
        "outputs": {"Y": [[1.5, None], [None, None]]}
    }


def test_texts_are_strings_and_what_is_no_utf8_is_escaped():
    array = np.array([["é".encode(), b"\xff"]], object)
    assert json.loads(write_json({"T": array}, seconds=2)) == {
        "outputs": {"T": [["é", "\\xff"]]},
        "seconds": 2,
    }


def test_a_person_sees_which_number_it_is_not():
    assert write_outputs({"Y": np.array([np.nan, np.inf], np.float32)}) == "Y  float32 [2]  [nan, inf]"


def test_best_classes_of_integers_are_listed():
    text = write_outputs({"Y": np.array([[3, 9, 4]])}, top=2)
    assert [line.split() for line in text.splitlines()[2:]] == [["9.0000", "1"], ["4.0000", "2"]]


@pytest.mark.parametrize(
    "outputs",
    [
        {"Y": np.ones(1, "f")},
        {"Y": np.array([b"a", b"b"], dtype=object)},
        {"Y": np.array([b"a"], dtype=object), "Z": np.ones(1, "f")},
    ],
    ids=["numbers", "several", "more"],
)
def test_item_that_is_more_than_a_text_has_none(outputs):
    assert read_text(outputs) is None
    assert read_text({"Y": np.array([[b"a\xff"]], dtype=object)}) == "a\\xff"
