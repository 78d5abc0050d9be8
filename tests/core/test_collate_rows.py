"""A `collate` that loses or adds rows is what the error names, and not the output."""

import numpy as np
import pytest
import torch
from core_kit import make_pipeline, make_spec

from kindaware import TensorSpec
from kindaware._batch.request import Request

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
