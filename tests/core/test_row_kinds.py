"""Rows of requests: what may be concatenated, and which part of a batch is whose."""

import pytest
import torch

from kindaware._tensors.rows import Answer, RaggedRows, kind_of, split


def test_kind_of_rows_apart_is_that_of_the_same_rows_joined():
    floats, integers = torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64)
    assert kind_of(RaggedRows(list(floats))) == kind_of(floats)
    assert kind_of(RaggedRows(list(integers))) == kind_of(integers) != kind_of(floats)


def test_split_cuts_joined_outputs_by_rows_and_gives_each_request_its_own_of_the_others():
    joined, apart = torch.arange(6.0).view(3, 2), [torch.zeros(1, 9), torch.ones(0, 7), torch.ones(2, 5)]
    answers = split({"A": joined, "B": apart, "C": -joined}, [1, 0, 2])
    assert [list(answer) for answer in answers] == [["A", "B", "C"]] * 3
    for answer, rows, own in zip(answers, [slice(0, 1), slice(1, 1), slice(1, 3)], apart, strict=True):
        assert torch.equal(answer["A"], joined[rows])
        assert torch.equal(answer["C"], -joined[rows])
        assert answer["B"] is own


def test_split_of_joined_outputs_makes_views_on_access():
    joined = torch.arange(3.0)
    answers = split({"A": joined}, [2, 1])
    assert [type(answer) for answer in answers] == [Answer, Answer]
    assert answers[1]["A"].data_ptr() == joined[2:].data_ptr()


@pytest.mark.parametrize("value", [torch.tensor(1.0), [torch.tensor(1.0)]])
def test_split_for_a_model_that_does_not_batch_gives_all_to_its_request(value):
    [answer] = split({"A": value}, [None])
    assert torch.equal(answer["A"], torch.tensor(1.0))
