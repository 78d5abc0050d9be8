"""Outputs whose size differs per request: a list with a tensor for each, from one forward for all."""

import collections
import dataclasses

import numpy as np
import pytest
import torch
from core_kit import make_pipeline, make_spec

from kindaware import KindAwareModel, TensorSpec
from kindaware._batch.request import Request
from kindaware._batch.results import Failure
from kindaware.testing import InferenceError, ModelHarness

X = TensorSpec("X", "FP32", [3])
KEPT = TensorSpec("KEPT", "FP32", [-1])
BOXES = TensorSpec("BOXES", "FP32", [-1, 4])
COUNT = TensorSpec("COUNT", "INT64", [1])
WORDS = TensorSpec("WORDS", "BYTES", [-1])


def request(*rows):
    return Request("r", {"X": torch.tensor(rows, dtype=torch.float32)}, len(rows))


def pipeline_of(forward, *outputs, **more):
    return make_pipeline(forward, spec=make_spec(inputs=[X], outputs=outputs), **more)


def values(found, name="KEPT"):
    return [one.text if isinstance(one, Failure) else one[name].tolist() for one in found]


def positive(X):
    return [row[row > 0] for row in X]


ROWS = [request([1, -1, -1]), request([2, 3, -1]), request([4, 5, 6]), request([-1, -1, -1])]
EXPECTED = [[[1]], [[2, 3]], [[4, 5, 6]], [[]]]


@pytest.mark.parametrize(
    "returned",
    [
        positive,
        lambda X: [row[None] for row in positive(X)],
        lambda X: {"KEPT": positive(X)},
        lambda X: {"KEPT": tuple(positive(X))},
        lambda X: (positive(X),),
        lambda X: tuple(positive(X)),
        lambda X: tuple(row[None] for row in positive(X)),
        lambda X: torch.nested.nested_tensor(positive(X), layout=torch.jagged),
    ],
    ids=["row", "request", "mapping", "tuple", "only output", "rows", "requests", "nested"],
)
@pytest.mark.parametrize("num_requests", [1, 2, 4])
def test_each_request_gets_its_own_from_one_forward(returned, num_requests):
    batches = []

    def forward(X):
        batches.append(len(X))
        return returned(X)

    found = pipeline_of(forward, KEPT).run(ROWS[:num_requests])
    assert values(found) == EXPECTED[:num_requests]
    assert batches == [num_requests]
    assert all(one["KEPT"].is_contiguous() for one in found)


def test_two_outputs_one_of_them_joined():
    def forward(X):
        boxes = [torch.full((1, int(row[0]), 4), row[0]) for row in X]
        return boxes, torch.tensor([[one.shape[1]] for one in boxes])

    found = pipeline_of(forward, BOXES, COUNT).run([request([n, 0, 0]) for n in range(8)])
    assert [tuple(one["BOXES"].shape) for one in found] == [(1, n, 4) for n in range(8)]
    assert [list(one) for one in found] == [["BOXES", "COUNT"]] * 8
    assert values(found, "COUNT") == [[[n]] for n in range(8)]


def test_requests_of_several_rows_get_all_of_theirs():
    spec = make_spec(inputs=[X], outputs=[KEPT])
    model = make_pipeline(lambda X: [torch.ones(2, 1), torch.ones(1, 3)], spec=spec)
    assert values(model.run([request([0] * 3, [0] * 3), request([0] * 3)])) == [[[1], [1]], [[1, 1, 1]]]
    found = pipeline_of(positive, KEPT).run([request([1, -1, -1], [2, -1, -1]), request([3, 4, -1])])
    assert values(found) == [[[1], [2]], [[3, 4]]]


def test_rows_of_one_request_that_differ_fail_it_and_are_named():
    found = values(pipeline_of(positive, KEPT).run([request([1, -1, -1], [2, 3, -1])]))
    assert "output 'KEPT': expected one shape for all rows of a request" in found[0]
    assert "got shapes [[1], [2]]" in found[0]


@pytest.mark.parametrize("num_requests", [1, 2, 4])
@pytest.mark.parametrize("form", ["row", "array", "request"])
def test_text_of_different_number(form, num_requests):
    batches = []

    def forward(X):
        batches.append(len(X))
        rows = [[f"w{value:.0f}" for value in row.tolist()] for row in positive(X)]
        if form == "request":
            return [[row] for row in rows]
        return rows if form == "row" else [np.array(row, dtype=object) for row in rows]

    found = pipeline_of(forward, WORDS).run(ROWS[:num_requests])
    words = [[[b"w1"]], [[b"w2", b"w3"]], [[b"w4", b"w5", b"w6"]], [[]]]
    assert values(found, "WORDS") == words[:num_requests]
    assert batches == [num_requests]


@pytest.mark.parametrize("split", [torch.split, torch.tensor_split, torch.chunk])
def test_rows_that_torch_has_split_need_one_forward(split):
    batches = []

    def forward(X):
        batches.append(len(X))
        return split(2 * X, 1 if split is torch.split else len(X))

    requests = [request([n, n, n]) for n in range(8)]
    found = pipeline_of(forward, TensorSpec("KEPT", "FP32", [3])).run(requests)
    assert values(found) == [[[2 * n] * 3] for n in range(8)]
    assert batches == [8]


@pytest.mark.parametrize("dims", [[1], [-1], [2], [1, 2]])
@pytest.mark.parametrize("form", ["row", "request", "tuple"])
@pytest.mark.parametrize("num_requests", [1, 2, 4])
def test_arrays_of_text_need_one_forward_whatever_is_declared(dims, form, num_requests):
    batches = []
    sizes = [1 if size == -1 else size for size in dims]

    def forward(X):
        batches.append(len(X))
        arrays = [np.full(sizes, f"{row[0]:.0f}", dtype=object) for row in X]
        arrays = [one[None] for one in arrays] if form == "request" else arrays
        return {"WORDS": tuple(arrays) if form == "tuple" else arrays}

    found = pipeline_of(forward, TensorSpec("WORDS", "BYTES", dims)).run(ROWS[:num_requests])
    words = [np.full((1, *sizes), text, dtype=object).tolist() for text in (b"1", b"2", b"4", b"-1")]
    assert values(found, "WORDS") == words[:num_requests]
    assert batches == [num_requests]


def test_arrays_of_text_that_do_not_fit_are_refused_clearly():
    def forward(X):
        return [np.array(["a"], dtype=object)] * 3

    pipeline = pipeline_of(forward, TensorSpec("WORDS", "BYTES", [1]), isolate_errors=False)
    found = values(pipeline.run(ROWS[:2]), "WORDS")
    assert "expected one tensor for each of the 2 requests" in found[0]
    assert "got 3 of shapes [[1], [1], [1]]; correct forward" in found[0]


def test_postprocess_makes_the_list():
    pipeline = pipeline_of(lambda X: X * 2, KEPT, postprocess=lambda outputs: positive(outputs["KEPT"]))
    assert values(pipeline.run(ROWS)) == [[[2]], [[4, 6]], [[8, 10, 12]], [[]]]


def test_parts_are_cast_checked_and_freed_of_gradients():
    def forward(X):
        return [row.double().requires_grad_() for row in positive(X)]

    found = pipeline_of(forward, KEPT, cast_outputs=True).run(ROWS)
    assert values(found) == EXPECTED
    assert {one["KEPT"].dtype for one in found} == {torch.float32}


def test_forwards_that_write_the_same_memory_keep_their_answers():
    memory = torch.zeros(8)

    def forward(X):
        start = 0
        parts = []
        for row in positive(X):
            parts.append(memory[start : start + len(row)].copy_(row))
            start += len(row)
        return parts

    spec = make_spec(inputs=[TensorSpec("X", "FP32", [-1])], outputs=[KEPT])
    pipeline = make_pipeline(forward, spec=spec)
    assert values(pipeline.run([request([1, -1]), request([2, 3, 4]), request([5, 6])])) == [
        [[1]],
        [[2, 3, 4]],
        [[5, 6]],
    ]


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        (lambda X: [X[:1], X[:1], X[:1]], "expected one tensor for each of the 2 requests, its rows first"),
        (lambda X: [X[:1, :, None]] * 2, "got 2 of shapes [[1, 3, 1], [1, 3, 1]]"),
        (lambda X: [X[:2], X[:1]], "expected 1 rows, as many as the batch has, got shape [2, 3]"),
        (lambda X: {"KEPT": [X[:1], 1]}, "expected a torch.Tensor, got list"),
        (lambda X: {"KEPT": []}, "expected a torch.Tensor, got list"),
        (lambda X: [X[:1].int()] * 2, "expected data type FP32, got INT32"),
    ],
)
def test_list_that_does_not_fit_is_refused_clearly(returned, text):
    found = pipeline_of(returned, KEPT, isolate_errors=False).run(ROWS[:2])
    assert all(text in one.text for one in found)


def test_sizes_that_are_declared_are_checked_for_each_request():
    def forward(X):
        return [torch.ones(1, 2, 3 if row[0] == 2 else 4) for row in X]

    found = pipeline_of(forward, BOXES).run(ROWS[:3])
    assert [isinstance(one, Failure) for one in found] == [False, True, False]
    assert "output 'BOXES': expected shape [B, -1, 4], got shape [1, 2, 3]" in found[1].text


def test_list_of_an_output_that_follows_an_input_is_not_cut():
    ids = TensorSpec("IDS", "INT64", [-1])
    tags = TensorSpec("TAGS", "INT64", [-1])
    pipeline = make_pipeline(
        lambda IDS, lengths: [row[: int(size) + 1] for row, size in zip(IDS, lengths, strict=True)],
        spec=make_spec(inputs=[ids], outputs=[tags]),
        pad={"IDS": 0},
        unpad={"TAGS": ("IDS",)},
    )
    requests = [Request("r", {"IDS": torch.ones(1, n, dtype=torch.int64)}, 1) for n in (1, 3)]
    assert values(pipeline.run(requests), "TAGS") == [[[1, 0]], [[1, 1, 1]]]


Y = TensorSpec("Y", "FP32", [-1])
Z = TensorSpec("Z", "FP32", [-1])
Both = collections.namedtuple("Both", "Y Z")
TEXTS = [TensorSpec("Y", "BYTES", [-1]), TensorSpec("Z", "BYTES", [-1])]


@dataclasses.dataclass
class Record:
    Y: object
    Z: object


def pairs(X):
    return [(row, 100 + row) for row in X]


BY_REQUEST = {
    "tuples": pairs,
    "lists": lambda X: [[*pair] for pair in pairs(X)],
    "named tuples": lambda X: [Both(*pair) for pair in pairs(X)],
    "dicts": lambda X: [{"Y": y, "Z": z} for y, z in pairs(X)],
    "dataclasses": lambda X: [Record(*pair) for pair in pairs(X)],
    "tuple of tuples": lambda X: tuple(pairs(X)),
    "tuple of dicts": lambda X: tuple({"Y": y, "Z": z} for y, z in pairs(X)),
    "with rows": lambda X: [(row[None], 100 + row[None]) for row in X],
}


@pytest.mark.parametrize("hook", ["forward", "postprocess"])
@pytest.mark.parametrize("num_requests", [1, 2, 3])
@pytest.mark.parametrize("form", BY_REQUEST)
def test_one_record_per_request_is_refused_whatever_their_number(form, num_requests, hook):
    returned = BY_REQUEST[form]
    if hook == "forward":
        pipeline = pipeline_of(returned, Y, Z)
    else:
        pipeline = pipeline_of(lambda X: (X, X), Y, Z, postprocess=lambda outputs: returned(outputs["Y"]))
    found = values(pipeline.run(ROWS[:num_requests]))
    for text in found:
        assert f"model 'm' {hook}: expected each output for all requests together, got a " in text
        assert text.endswith("return ([y, ...], [z, ...]), or a dict of such lists by output name")


@pytest.mark.parametrize(
    ("outputs", "returned"),
    [
        ([KEPT], lambda X: [(row,) for row in X]),
        ([KEPT], lambda X: [[row] for row in X]),
        ([KEPT], lambda X: tuple((row,) for row in X)),
        ([KEPT], lambda X: [{"KEPT": row} for row in X]),
        (TEXTS, lambda X: [["a", "b"] for _ in X]),
        (TEXTS, lambda X: [(["a"], ["b"]) for _ in X]),
        ([Y, TEXTS[1]], lambda X: [(row, ["b"]) for row in X]),
    ],
)
@pytest.mark.parametrize("num_requests", [1, 2, 3])
def test_one_record_per_request_is_refused_of_one_output_and_of_text(outputs, returned, num_requests):
    found = values(pipeline_of(returned, *outputs).run(ROWS[:num_requests]), outputs[0].name)
    assert all("which may be one per request; return ([" in text for text in found)


@pytest.mark.parametrize(
    "returned",
    [
        lambda X: ([*X], [*(100 + X)]),
        lambda X: [X, 100 + X],
        lambda X: ([*X], tuple(100 + X)),
        lambda X: [X, [*(100 + X)]],
        lambda X: {"Z": tuple(100 + X), "Y": tuple(X)},
        lambda X: Both(tuple(X), tuple(100 + X)),
        lambda X: Record([*X], [*(100 + X)]),
    ],
)
@pytest.mark.parametrize("num_requests", [1, 2, 3])
def test_each_output_for_all_requests_reaches_its_own(returned, num_requests):
    found = pipeline_of(returned, Y, Z).run(ROWS[:num_requests])
    rows = [one.inputs["X"] for one in ROWS[:num_requests]]
    assert values(found, "Y") == [one.tolist() for one in rows]
    assert values(found, "Z") == [(100 + one).tolist() for one in rows]


class Positive(KindAwareModel):
    def load(self):
        """Make nothing."""

    def forward(self, X):
        return positive(X)


def test_fast_path_answers_lists_too():
    config = {
        "name": "m",
        "max_batch_size": 8,
        "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [3]}],
        "output": [{"name": "KEPT", "data_type": "TYPE_FP32", "dims": [-1]}],
    }
    with ModelHarness(Positive, config=config) as harness:
        assert harness.instance._kindaware_instance._executor.fast_path is not None
        found = harness.infer_batch([{"inputs": {"X": one.inputs["X"].numpy()}} for one in ROWS])
    assert [one.outputs["KEPT"].tolist() for one in found] == EXPECTED


def test_model_without_a_batch_dimension_may_return_a_list_of_one():
    spec = make_spec(inputs=[X], outputs=[KEPT], max_batch_size=0)
    pipeline = make_pipeline(lambda X: [X[X > 0]], spec=spec)
    [found] = pipeline.run([Request("r", {"X": torch.tensor([1.0, -1, 2])}, None)])
    assert found["KEPT"].tolist() == [1, 2]


class StreamsRecords(KindAwareModel):
    def load(self):
        """Make nothing."""

    def stream(self, X):
        yield [(row, 100 + row) for row in X]


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_stream_item_of_one_record_per_row_is_refused(rows):
    config = {
        "name": "m",
        "max_batch_size": 8,
        "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [3]}],
        "output": [{"name": name, "data_type": "TYPE_FP32", "dims": [-1]} for name in "YZ"],
        "model_transaction_policy": {"decoupled": True},
    }
    text = "model 'm' stream: expected each output for all requests together"
    off = {"kindaware.warmup": "off"}
    with (
        ModelHarness(StreamsRecords, config=config, parameters=off) as harness,
        pytest.raises(InferenceError, match=text),
    ):
        list(harness.stream(X=np.ones((rows, 3), np.float32)))


class Streaming(Positive):
    forward = None

    def stream(self, X):
        yield [row[row > 0] for row in X]
        yield [X]


def test_stream_item_may_be_a_list():
    config = {
        "name": "m",
        "max_batch_size": 8,
        "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [3]}],
        "output": [{"name": "KEPT", "data_type": "TYPE_FP32", "dims": [-1]}],
        "model_transaction_policy": {"decoupled": True},
    }
    with ModelHarness(Streaming, config=config) as harness:
        items = list(harness.stream(X=np.array([[1, -1, 2], [3, 4, -1]], np.float32)))
    assert [one.outputs["KEPT"].tolist() for one in items] == [[[1, 2], [3, 4]], [[1, -1, 2], [3, 4, -1]]]
