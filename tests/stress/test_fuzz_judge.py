"""What the fuzz takes for a finding, and what it doesn't."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from stress.fuzz.cases import Case, cases, make_tensor, right_request
from stress.fuzz.judge import judge
from stress.fuzz.wire import Outcome

from searches import examples

RIGHT = right_request(5, 4)
VALUES = [155.0, 156.0, 157.0, 158.0]
ITEM = {"KEY": [5], "DOUBLED": [2 * one for one in VALUES], "TEXT": [b"text of 5"]}
STREAM = Case(
    "step",
    "stream",
    tensors=(make_tensor("KEY", "INT64", (1, 1), (5,)), make_tensor("COUNT", "INT32", (1, 1), (2,))),
)
ITEMS = [{"KEY": [5], "INDEX": [0]}, {"KEY": [5], "INDEX": [1]}]


def answer(*items, request_id="right-5"):
    return Outcome("answer", "200", items=list(items), request_id=request_id)


def test_right_answer_is_no_finding():
    assert judge(RIGHT, answer(ITEM)) is None


@pytest.mark.parametrize(
    "changes",
    [{"KEY": [6]}, {"DOUBLED": [0.0] * 4}, {"DOUBLED": ITEM["DOUBLED"][:3]}, {"TEXT": [b"text of 6"]}],
)
def test_answer_of_another_request_is_a_finding(changes):
    assert judge(RIGHT, answer(ITEM | changes)).startswith("answer")


def test_id_of_another_request_is_a_finding():
    case = replace(RIGHT, protocol="grpc")
    assert judge(case, answer(ITEM)) is None
    assert judge(case, answer(ITEM, request_id="right-6")) == "id 'right-6'"


def test_texts_in_json_are_compared_as_they_were_written_there():
    case = replace(
        RIGHT, is_binary=False, tensors=(*RIGHT.tensors[:2], make_tensor("TEXT", "BYTES", (1, 1), (b"\xff",)))
    )
    assert judge(case, answer(ITEM | {"TEXT": ["ÿ".encode()]})) is None
    assert judge(case, answer(ITEM | {"TEXT": [b"\xff"]})) is not None


def test_values_that_are_no_numbers_are_compared_too():
    tensors = (
        RIGHT.tensors[0],
        make_tensor("VALUES", "FP32", (1, 2), (float("nan"), 3e38)),
        RIGHT.tensors[2],
    )
    case = replace(RIGHT, tensors=tensors)
    assert judge(case, answer(ITEM | {"DOUBLED": [float("nan"), float("inf")]})) is None
    assert judge(case, answer(ITEM | {"DOUBLED": [0.0, float("inf")]})) is not None


@pytest.mark.parametrize("kind", ["hang", "closed"])
def test_no_answer_is_a_finding(kind):
    assert judge(RIGHT, Outcome(kind)).startswith(kind)


@pytest.mark.parametrize(
    "text",
    [
        "no /srv/weights.pt",
        "Traceback (most recent call last)",
        "model.py:3",
        "expected execute to return, got KeyError",
        "expected building the response to return, got ValueError",
    ],
)
def test_files_and_errors_of_the_library_are_findings(text):
    assert judge(RIGHT, Outcome("error", "500", text)) is not None
    # Not where the client itself has sent it.
    is_path = "expected" not in text
    assert (judge(replace(RIGHT, request_id=text), Outcome("error", "500", text)) is None) == is_path


def test_stream_is_compared_item_by_item():
    assert judge(STREAM, answer(*ITEMS, request_id="")) is None
    for wrong in (ITEMS[::-1], ITEMS[:1], [*ITEMS, ITEMS[0]], [ITEMS[0] | {"KEY": [6]}, ITEMS[1]]):
        assert judge(STREAM, answer(*wrong, request_id="")) is not None
    assert judge(STREAM, Outcome("error", "OK", "not today", ITEMS[:1], "")) is None


@given(case=cases)
@settings(max_examples=examples(100))
def test_each_case_is_one_that_can_be_written_down(case):
    assert case.body is not None or json.dumps(case.to_json())
    assert judge(case, Outcome("error", "400", "no")) is None or not case.is_whole
