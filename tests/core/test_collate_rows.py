"""A `collate` that loses or adds rows is what the error names, and not the output."""

import numpy as np
import pytest
import torch
from core_kit import make_pipeline, make_plan, make_spec

from kindaware import RequestError, TensorSpec
from kindaware._batch.collate import Collator
from kindaware._batch.request import HostArray, Request

OUTPUTS = [
    pytest.param(TensorSpec("Y", "FP32", [2]), lambda X: X * 2, id="tensor"),
    pytest.param(TensorSpec("Y", "BYTES", [1]), lambda X: [["a"]] * len(X), id="text"),
    pytest.param(TensorSpec("Y", "FP32", [-1]), lambda X: X * 2, id="variable"),
    pytest.param(TensorSpec("Y", "FP32", [-1]), lambda X: [row[1:] for row in X], id="list"),
]


def requests_of(value, *rows):
    return [Request("r", {"X": value(num)}, num) for num in rows]


def unchanged(outputs):
    return outputs


def floats(num_rows):
    return torch.ones(num_rows, 2)


@pytest.mark.parametrize(("output", "forward"), OUTPUTS)
@pytest.mark.parametrize(
    ("collate", "shape"),
    [(lambda name, tensors: tensors[0][:1], [1, 2]), (lambda name, tensors: torch.cat(tensors * 2), None)],
    ids=["loses", "adds"],
)
@pytest.mark.parametrize("has_postprocess", [False, True])
def test_collate_of_another_number_of_rows_is_named(output, forward, collate, shape, has_postprocess):
    more = {"postprocess": unchanged} if has_postprocess else {}
    pipeline = make_pipeline(
        forward, spec=make_spec(outputs=[output]), collate=collate, isolate_errors=False, **more
    )
    found = pipeline.run(requests_of(floats, 2, 1))
    got = shape or [6, 2]
    for one in found:
        assert (
            f"collate of input 'X': expected 3 rows, as many as the requests have, got shape {got}"
            in one.text
        )


def test_collate_of_text_that_loses_rows_is_named():
    text = TensorSpec("X", "BYTES", [1])
    pipeline = make_pipeline(
        lambda X: torch.ones(len(X), 2),
        spec=make_spec(inputs=[text]),
        collate=lambda name, arrays: arrays[0][:1],
    )
    [found] = pipeline.run(requests_of(lambda num: np.full((num, 1), b"a", dtype=object), 2))
    assert "collate of input 'X': expected 2 rows" in found.text


def test_forward_is_named_where_collate_has_kept_the_rows():
    pipeline = make_pipeline(lambda X: X[:1], collate=lambda name, tensors: torch.cat(tensors))
    [found] = pipeline.run(requests_of(floats, 2))
    assert (
        "output 'Y': expected 2 rows, as many as the batch has, got shape [1, 2]; correct forward"
        in found.text
    )


def test_collate_may_join_rows_to_another_number_if_the_outputs_have_the_batchs():
    pipeline = make_pipeline(
        lambda X: torch.stack([X, X]), collate=lambda name, tensors: torch.cat(tensors).sum(dim=0)
    )
    [found] = pipeline.run(requests_of(floats, 2))
    assert found["Y"].tolist() == [[2, 2], [2, 2]]


def test_what_collate_returns_is_waited_for_before_it_is_read():
    landed = []
    plan = make_plan(lambda X: X, collate=lambda name, tensors: torch.cat(tensors))
    parts, _ = Collator(plan, landed.append).parts(requests_of(floats, 2, 1))
    assert [len(one) for one in parts["X"]] == [3]
    assert landed == [parts["X"]]


def test_collate_is_asked_for_the_rows_of_arrays_too():
    plan = make_plan(lambda X: X, collate=lose)
    requests = [Request("r", HostArray("X", np.ones((num, 2), np.float32)), num) for num in (2, 1)]
    parts, _ = Collator(plan, land=len).parts(requests)
    assert [one.tolist() for one in parts["X"]] == [[[1, 1]]]


def test_collate_is_not_asked_for_the_one_request_of_a_model_without_batches():
    plan = make_plan(lambda X: X, spec=make_spec(max_batch_size=0), collate=lose)
    parts, _ = Collator(plan, land=len).parts([Request("r", {"X": torch.ones(2)}, None)])
    assert [one.tolist() for one in parts["X"]] == [[1, 1]]


def lose(name, tensors):
    return tensors[0][:1]


class IndexesRows:
    """Reads a row that a collate which loses rows has lost; counts its calls."""

    def __init__(self):
        self.batches = []

    def __call__(self, X):
        self.batches.append(len(X))
        return X + X[sum(self.rows) - 1]

    def run(self, pipeline, *rows):
        self.rows = rows
        return pipeline.run(requests_of(floats, *rows))


def test_collate_that_loses_rows_is_named_for_what_forward_raises_and_nothing_is_run_again():
    forward = IndexesRows()
    found = forward.run(make_pipeline(forward, collate=lose), 1, 1, 1)
    for one in found:
        assert one.text.startswith(
            "collate of input 'X': expected 3 rows, as many as the requests have, got shape [1, 2], and Ind"
        )
    assert forward.batches == [1]


def test_collate_that_loses_rows_is_named_for_what_postprocess_raises():
    pipeline = make_pipeline(
        lambda X: X, collate=lose, postprocess=lambda outputs: outputs["Y"][[0, 1]], has_answered=False
    )
    assert all(
        "collate of input 'X': expected 2 rows" in one.text for one in pipeline.run(requests_of(floats, 2))
    )


@pytest.mark.parametrize("collate", [lose, lambda name, tensors: None], ids=["loses", "nothing"])
def test_collate_that_is_wrong_for_several_requests_is_not_run_again_for_each(collate):
    batches = []

    def collated(name, tensors):
        batches.append(len(tensors))
        return tensors[0] if len(tensors) == 1 else collate(name, tensors)

    found = make_pipeline(lambda X: X, collate=collated).run(requests_of(floats, 1, 1, 1))
    assert all("collate of input 'X': expected" in one.text for one in found)
    assert batches == [3]


@pytest.mark.parametrize("wrong", ["raises", "type"])
def test_collate_that_changes_the_data_type_is_named(wrong):
    def forward(X):
        return torch.ones(2) @ X if wrong == "raises" else X

    def collate(name, tensors):
        return torch.cat(tensors).double()

    batches = []

    def counted(X):
        batches.append(len(X))
        return forward(X)

    found = make_pipeline(counted, collate=collate).run(requests_of(floats, 1, 1))
    for one in found:
        assert (
            "collate of input 'X': expected data type FP32, as the requests have, got FP64, and " in one.text
        )
    assert len(batches) == 1


def test_collate_may_change_the_data_type_and_forward_is_named_for_what_it_raises_later():
    def forward(X):
        if (X < 0).any():
            raise ValueError("negative")
        return X.float()

    def collate(name, tensors):
        return torch.cat(tensors).double()

    pipeline = make_pipeline(forward, collate=collate)
    [found] = pipeline.run(requests_of(floats, 1))
    assert found["Y"].tolist() == [[1, 1]]
    good, bad = pipeline.run([*requests_of(floats, 1), Request("r", {"X": -torch.ones(1, 2)}, 1)])
    assert good["Y"].tolist() == [[1, 1]]
    assert "expected forward to return, got ValueError: negative" in bad.text


def test_collate_is_not_blamed_for_a_request_that_is_refused():
    def forward(X):
        raise RequestError("too bright", rows=[0])

    found = make_pipeline(forward, collate=lambda name, tensors: torch.cat(tensors).double()).run(
        requests_of(floats, 1)
    )
    assert found[0].text == "too bright"


def test_collate_of_a_model_without_batches_is_not_blamed():
    """Nobody has asked it."""

    def forward(X):
        raise ValueError("odd")

    pipeline = make_pipeline(forward, spec=make_spec(max_batch_size=0), collate=lose)
    [found] = pipeline.run([Request("r", {"X": torch.ones(2)}, None)])
    assert "expected forward to return, got ValueError: odd" in found.text


def test_collate_of_text_into_numbers_is_not_blamed():
    def forward(X):
        raise ValueError("odd")

    pipeline = make_pipeline(
        forward,
        spec=make_spec(inputs=[TensorSpec("X", "BYTES", [1])]),
        collate=lambda name, arrays: torch.ones(sum(map(len, arrays)), 2),
    )
    [found] = pipeline.run(requests_of(lambda num: np.full((num, 1), b"a", dtype=object), 1))
    assert "expected forward to return, got ValueError: odd" in found.text
