"""Batched answers equal those of one request at a time, whatever comes together."""

import math
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from core_kit import make_pipeline, make_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from kindaware import RequestError, TensorSpec
from kindaware._batch.request import Request, group, halve, rank_key, shape_key
from kindaware._batch.results import Failure
from kindaware._tensors.rows import concat, split
from searches import examples

pytestmark = pytest.mark.usefixtures("constant_error_ids")

BAD, REFUSED, REFUSED_WIDTH = 91, 92, 3


@dataclass(frozen=True)
class Case:
    """One request, and what will become of it."""

    rows: int
    width: int
    dtype: torch.dtype
    fate: str

    def request(self, place, batches):
        """Every value of every request differs from all others, so that a swapped row shows."""
        shape = (self.rows, self.width) if batches else (self.width,)
        values = 100 * (place + 1) + torch.arange(math.prod(shape)).reshape(shape)
        if values.numel() and self.fate != "good":
            values.view(-1)[-1] = {"bad": BAD, "refused": REFUSED}[self.fate]
        return Request(f"r{place}", {"X": values.to(self.dtype)}, self.rows if batches else None)


CASES = st.lists(
    st.builds(
        Case,
        rows=st.integers(0, 4),
        width=st.integers(0, 3),
        dtype=st.sampled_from([torch.float32, torch.float32, torch.int64, torch.float64]),
        fate=st.sampled_from(["good"] * 6 + ["bad", "refused"]),
    ),
    max_size=12,
)


class Model:
    """Triples; refuses a width whatever the data, and a value whatever the width. Reuses its memory."""

    def __init__(self, batches):
        self.num_forwards = 0
        self.memory = torch.empty(4096)
        spec = make_spec(
            inputs=[TensorSpec("X", "FP32", [-1])],
            outputs=[TensorSpec("Y", "FP32", [-1]), TensorSpec("Z", "FP32", [-1])],
            max_batch_size=64 if batches else 0,
        )
        self.pipeline = make_pipeline(self.forward, spec=spec, preprocess=self.preprocess, cast_outputs=True)

    def preprocess(self, inputs):
        if (inputs["X"] == REFUSED).any():
            raise RequestError("refused", code="UNSUPPORTED")
        return inputs

    def forward(self, X):
        self.num_forwards += 1
        if X.shape[-1] == REFUSED_WIDTH or (X == BAD).any():
            raise ValueError("refused")
        reused = self.memory[: X.numel()].view(X.shape)
        reused.copy_(3 * X)
        return X.flip(-1), reused


def plain(outcome):
    """Something that compares equal when outcomes are the same."""
    if isinstance(outcome, Failure):
        return outcome
    return {name: (one.dtype, tuple(one.shape), one.flatten().tolist()) for name, one in outcome.items()}


@pytest.mark.parametrize("batches", [True, False])
@settings(max_examples=examples(250), deadline=None)
@given(cases=CASES)
def test_run_outcomes_equal_those_of_each_request_alone(batches, cases):
    requests = [case.request(place, batches) for place, case in enumerate(cases)]
    alone = [plain(Model(batches).pipeline.run([request])[0]) for request in requests]

    model = Model(batches)
    together = [plain(outcome) for outcome in model.pipeline.run(requests)]

    key_of = {place: (case.width, case.dtype) if batches else place for place, case in enumerate(cases)}
    refused = {
        place for place, one in enumerate(alone) if isinstance(one, Failure) and one.code == "UNSUPPORTED"
    }
    guilty = Counter(
        key_of[place]
        for place, one in enumerate(alone)
        if isinstance(one, Failure) and place not in refused and cases[place].width != REFUSED_WIDTH
    )
    for place, (one, other) in enumerate(zip(together, alone, strict=True)):
        gave_up = guilty[key_of[place]] > 1 and isinstance(one, Failure) and one.code == "INTERNAL"
        assert one == other or gave_up

    sizes = Counter(key for place, key in key_of.items() if place not in refused)
    assert model.num_forwards <= sum(1 + int(2 * math.log2(size)) + 2 + 1 for size in sizes.values())
    if not guilty and not any(case.width == REFUSED_WIDTH for case in cases):
        assert model.num_forwards == len(sizes)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(0, 3))
def test_scatter_is_the_inverse_of_gather(rows, width):
    parts = [torch.rand(count, width) for count in rows]
    batch = {"X": concat(parts)}
    for part, answer in zip(parts, split(batch, rows), strict=True):
        assert torch.equal(part, answer["X"])
        assert answer["X"].is_contiguous()


def test_gather_one_tensor_is_not_copied():
    one = torch.rand(2, 3)
    assert concat([one]) is one


@given(st.lists(st.integers(), min_size=1, max_size=65, unique=True))
def test_halve_keeps_all_in_order(positions):
    first, second = halve(positions)
    assert first + second == positions
    assert 0 <= len(first) - len(second) <= 1


def make(shape, dtype=torch.float32, name="X", rows=1):
    return Request("", {name: torch.zeros(shape, dtype=dtype)}, rows)


def test_group_separates_names_dtypes_and_trailing_shapes_in_order_of_arrival():
    requests = {
        4: make((1, 2)),
        7: make((5, 2), rows=5),
        2: make((1, 3)),
        3: make((1, 2), torch.int64),
        9: make((1, 2), name="Y"),
        1: make((1, 2)),
    }
    assert group(requests, shape_key) == [[4, 7, 1], [2], [3], [9]]


def test_group_for_collate_only_needs_the_same_number_of_dimensions():
    requests = {0: make((1, 2)), 1: make((1, 3)), 2: make((1, 2, 2))}
    assert group(requests, rank_key) == [[0, 1], [2]]


def test_group_model_that_does_not_batch_runs_each_request_alone():
    assert group({0: make((2,), rows=None), 1: make((2,), rows=None)}, shape_key) == [[0], [1]]


def test_request_repr_shows_shapes_and_no_data():
    assert repr(make((1, 2))) == "Request(id='', rows=1, shapes={'X': [1, 2]})"
