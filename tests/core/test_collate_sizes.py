"""A `collate` that pads: what of an output of variable size is the padding's, and not the request's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from core_kit import Doubler, make_pipeline, make_plan, make_spec, start, tensor
from torch.nn.functional import pad

from kindaware import ConfigError, TensorSpec
from kindaware._batch.request import Request
from kindaware._batch.results import Failure

X = TensorSpec("X", "FP32", [-1])
Y = TensorSpec("Y", "FP32", [-1])
TOP = TensorSpec("TOP", "FP32", [-1])
LENGTHS = (2, 4, 3)


def joined(name, tensors):
    longest = max(one.shape[1] for one in tensors)
    return torch.cat([pad(one, (0, longest - one.shape[1])) for one in tensors])


def to_a_multiple_of_8(name, tensors):
    return torch.cat([pad(one, (0, 8 - one.shape[1])) for one in tensors])


def requests_of(*lengths):
    return [Request("r", {"X": torch.full((1, length), float(length))}, 1) for length in lengths]


def values(found, name="Y"):
    return [one.text if isinstance(one, Failure) else one[name].tolist() for one in found]


def pipeline_of(forward, *, outputs=(Y,), collate=joined, unpad=None, **more):
    unpad = {"Y": ("X",)} if unpad is None else unpad
    return make_pipeline(
        forward, spec=make_spec(inputs=[X], outputs=outputs), collate=collate, unpad=unpad, **more
    )


@pytest.mark.parametrize("collate", [joined, to_a_multiple_of_8])
def test_output_is_as_long_alone_as_beside_longer_requests(collate):
    batches = []

    def forward(X):
        batches.append(len(X))
        return 2 * X

    pipeline = pipeline_of(forward, collate=collate)
    together = values(pipeline.run(requests_of(*LENGTHS)))
    assert together == [[[2.0 * length] * length] for length in LENGTHS]
    assert [values(pipeline.run(requests_of(length)))[0] for length in LENGTHS] == together
    assert batches == [3, 1, 1, 1]


def test_output_may_be_longer_than_the_longest_input_since_collate_may_pad_further():
    spec = make_spec(inputs=[X], outputs=[Y])
    padding = make_plan(lambda X: X, spec=spec, collate=joined, unpad={"Y": ("X",)}).padding
    assert padding.cuts({"Y": torch.ones(3, 8)}, requests_of(*LENGTHS)) == {"Y": {1: LENGTHS}}


def test_output_that_follows_no_input_is_left_as_it_is():
    pipeline = pipeline_of(
        lambda X: {"Y": 2 * X, "TOP": X[:, :2]}, outputs=[Y, TOP], unpad={"Y": ("X",), "TOP": (None,)}
    )
    found = pipeline.run(requests_of(*LENGTHS))
    assert values(found, "TOP") == [[[length] * 2] for length in LENGTHS]
    assert values(found, "Y") == [[[2.0 * length] * length] for length in LENGTHS]


def test_list_with_one_tensor_per_request_is_not_cut():
    pipeline = pipeline_of(lambda X: [X[:1, :1], X[1:2], X[2:, :3]], unpad={"Y": (None,)})
    assert values(pipeline.run(requests_of(*LENGTHS))) == [[[2]], [[4] * 4], [[3] * 3]]


def test_output_shorter_than_the_input_that_it_follows_is_refused():
    found = values(pipeline_of(lambda X: X[:, :3], isolate_errors=False).run(requests_of(*LENGTHS)))
    assert all(
        "output 'Y': expected size 4 or more in dimension 1, to which is padded input 'X', got shape [3, 3]"
        in one
        for one in found
    )


def test_output_follows_what_preprocess_has_made():
    def preprocess(inputs):
        return {"ids": [row[row > 0] for row in inputs["X"]]}

    def collate(name, rows):
        every = [row for one in rows for row in one]
        return torch.nn.utils.rnn.pad_sequence(every, batch_first=True)

    requests = [Request("r", {"X": torch.tensor([row])}, 1) for row in ([1.0, 0, 0], [2.0, 3, 0])]
    for forward, name in ((lambda ids: 2 * ids, "ids"), (lambda **inputs: 2 * inputs["ids"], "ids")):
        pipeline = pipeline_of(forward, preprocess=preprocess, collate=collate, unpad={"Y": (name,)})
        assert values(pipeline.run(requests)) == [[[2]], [[4, 6]]]


class Joins(Doubler):
    def collate(self, name, tensors):
        return joined(name, tensors)


class Prepares(Joins):
    def preprocess(self, inputs):
        return inputs


class TakesAny(Prepares):
    def forward(self, **inputs):
        return inputs["X"]


VARIABLE = {"input": [tensor("X", [-1])], "output": [tensor("Y", [-1])]}


@pytest.mark.parametrize(
    ("model", "unpad", "changes", "text"),
    [
        (Joins, None, VARIABLE, "the input, which collate may pad, that output 'Y' is as long as"),
        (Joins, {"Y": "Z"}, VARIABLE, r"inputs of variable size, \['X'\], got 'Z'; write unpad = "),
        (Prepares, {"Y": "Z"}, VARIABLE, r"inputs of variable size, \['X'\], got 'Z'"),
        (TakesAny, None, VARIABLE, "that output 'Y' is as long as, or None, got neither"),
        (Joins, {"Z": "X"}, VARIABLE, r"outputs with a dimension of -1, \['Y'\], got 'Z'"),
        (
            Prepares,
            None,
            {"output": [tensor("Y", [-1])]},
            "that output 'Y' is as long as, or None, got neither",
        ),
    ],
)
def test_output_of_variable_size_beside_collate_needs_unpad(model, unpad, changes, text):
    with pytest.raises(ConfigError, match=f"model 'm' setting 'unpad': expected .*{text}") as caught:
        start(type("Model", (model,), {"unpad": unpad}), **changes)
    assert "or is a list with one tensor per request" in str(caught.value)


FIXED = TensorSpec("X", "FP32", [4])


def test_collate_of_a_model_whose_outputs_do_not_depend_on_it_needs_no_unpad():
    specs = [
        make_spec(inputs=[FIXED], outputs=[Y]),
        make_spec(inputs=[X], outputs=[TensorSpec("Y", "FP32", [4])]),
        make_spec(inputs=[X], outputs=[Y], max_batch_size=1),
        make_spec(inputs=[X], outputs=[Y], max_batch_size=0),
        replace(make_spec(inputs=[X], outputs=[Y]), decoupled=True),
    ]
    assert [make_plan(lambda X: X, spec=spec, collate=joined).padding for spec in specs] == [None] * 5


def test_text_beside_collate_is_cut_too():
    spec = make_spec(inputs=[X], outputs=[TensorSpec("Y", "BYTES", [-1])])
    pipeline = make_pipeline(
        lambda X: np.array([[b"a"] * X.shape[1]] * len(X), dtype=object),
        spec=spec,
        collate=joined,
        unpad={"Y": ("X",)},
    )
    assert values(pipeline.run(requests_of(*LENGTHS))) == [[[b"a"] * length] for length in LENGTHS]
