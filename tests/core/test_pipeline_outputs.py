"""Outputs held against the configuration, and the hooks around forward."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from core_kit import make_pipeline, make_request, make_spec

from kindaware import TensorSpec
from kindaware._batch.request import HostArray, Request
from kindaware._batch.results import Failure

TWO = make_spec(outputs=[TensorSpec("Y", "FP32", [2]), TensorSpec("N", "INT64", [])])


def run_one(forward, rows=2, spec=None, **settings):
    """Answer one request of rows filled with ones."""
    [outcome] = make_pipeline(forward, spec=spec, **settings).run([make_request("r", 1, rows=rows)])
    return outcome


WEIGHTS = torch.nn.Parameter(torch.rand(3, 2))


class Pair(NamedTuple):
    """Outputs by name, in another order than the configuration's."""

    N: torch.Tensor
    Y: torch.Tensor


@dataclass
class Outputs:
    """Outputs by name."""

    N: torch.Tensor
    Y: torch.Tensor


@pytest.mark.parametrize(
    "form",
    [
        lambda Y, N: (Y, N),
        lambda Y, N: [Y, N],
        lambda Y, N: {"N": N, "Y": Y},
        lambda Y, N: Outputs(N, Y),
        lambda Y, N: Pair(N, Y),
    ],
    ids=["tuple", "list", "mapping", "dataclass", "named tuple"],
)
def test_forward_may_return_any_form(form):
    outcome = run_one(lambda X: form(2 * X, torch.arange(len(X))), spec=TWO)
    assert list(outcome) == ["Y", "N"]
    assert outcome["Y"].tolist() == [[2, 2], [2, 2]]
    assert outcome["N"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        (None, "model 'm' forward output 'Y': expected a torch.Tensor, got NoneType; correct forward"),
        ([[1.0, 2.0]], "model 'm' forward output 'Y': expected a torch.Tensor, got list"),
        ((torch.ones(2, 2),) * 2, "got 2 of shapes [[2, 2], [2, 2]]; correct forward, or the outputs"),
        ((torch.ones(2, 2), 1), "model 'm' forward: expected 1 outputs ['Y'], got 2 of type tuple"),
        (torch.ones(2, 2).max(dim=1), "forward: expected 1 outputs ['Y'], got 2 of type max"),
        ({"Z": torch.ones(2, 2)}, "model 'm' forward: expected outputs ['Y'], got outputs ['Z']"),
        ({}, "model 'm' forward: expected outputs ['Y'], got outputs []"),
        (
            torch.ones(3, 2),
            "model 'm' output 'Y': expected 2 rows, as many as the batch has, got shape [3, 2]",
        ),
        (torch.tensor(1.0), "model 'm' output 'Y': expected 2 rows, as many as the batch has, got shape []"),
        (torch.ones(2, 3), "model 'm' output 'Y': expected shape [B, 2], got shape [2, 3]"),
        (torch.ones(2, 2, 1), "model 'm' output 'Y': expected shape [B, 2], got shape [2, 2, 1]"),
        (
            torch.ones(2, 2).to_sparse(),
            "model 'm' output 'Y': expected a dense tensor, got layout torch.sparse_coo",
        ),
        (
            torch.ones(2, 2).double(),
            "model 'm' output 'Y': expected data type FP32, got FP64; convert it in forward, declare ",
        ),
        (torch.ones(2, 2, dtype=torch.complex64), "expected data type FP32, got torch.complex64"),
    ],
)
def test_forward_returning_what_is_not_declared_fails_with_internal(returned, text):
    outcome = run_one(lambda X: returned)
    assert outcome.code == "INTERNAL"
    assert text in outcome.text


def test_forward_returning_a_wrong_shape_without_batching_says_the_shape():
    spec = make_spec(max_batch_size=0)
    [outcome] = make_pipeline(lambda X: X[:1], spec=spec).run([make_request("r", 1, batches=False)])
    assert "output 'Y': expected shape [2], got shape [1]" in outcome.text


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.bool, torch.bfloat16])
def test_cast_outputs_converts_to_the_declared_dtype(dtype):
    outcome = run_one(lambda X: X.to(dtype), cast_outputs=True)
    assert (outcome["Y"].dtype, outcome["Y"].tolist()) == (torch.float32, [[1, 1], [1, 1]])
    assert isinstance(run_one(lambda X: X.to(dtype)), Failure)


def test_precision_converts_its_own_dtype_and_no_other():
    assert run_one(lambda X: X.bfloat16(), precision="bf16-mixed")["Y"].dtype is torch.float32
    assert isinstance(run_one(lambda X: X.half(), precision="bf16-mixed"), Failure)
    whole = make_spec(outputs=[TensorSpec("Y", "INT32", [2])])
    assert isinstance(run_one(lambda X: X.bfloat16(), precision="bf16-mixed", spec=whole), Failure)


@pytest.mark.parametrize(
    "make",
    [
        lambda X: torch.arange(2.0 * len(X)).reshape(2, len(X)).T,
        lambda X: torch.arange(4.0 * len(X)).reshape(2 * len(X), 2)[::2],
        lambda X: torch.arange(4.0 * len(X)).reshape(len(X), 4)[:, 1:3],
        lambda X: torch.tensor([3.0, 4.0]).expand(len(X), 2),
        lambda X: WEIGHTS,
        lambda X: torch.complex(X, X).conj().imag,
    ],
    ids=["transposed", "every other row", "columns", "expanded", "parameter", "negated lazily"],
)
def test_forward_output_of_any_kind_becomes_plain_memory(make):
    batch = torch.ones(3, 2)
    expected = make(batch).detach().resolve_neg().clone(memory_format=torch.contiguous_format)
    outcome = run_one(make, rows=3)["Y"]
    assert outcome.is_contiguous()
    assert torch.equal(torch.from_numpy(outcome.numpy()), expected)


def test_forward_output_of_one_number_negated_lazily_becomes_plain_memory():
    spec = make_spec(outputs=[TensorSpec("Y", "FP32", [1])])
    outcome = run_one(lambda X: torch.complex(X, X).conj().imag[:, :1], rows=1, spec=spec)
    assert outcome["Y"].numpy().tolist() == [[-1]]


def test_forward_that_reuses_its_memory_within_a_call_keeps_earlier_answers():
    memory = torch.empty(2)
    spec = make_spec(max_batch_size=0)
    pipeline = make_pipeline(lambda X: memory.copy_(2 * X), spec=spec)
    outcomes = pipeline.run([make_request(n, n, batches=False) for n in range(4)])
    assert [one["Y"].tolist() for one in outcomes] == [[2 * n] * 2 for n in range(4)]


def test_forward_that_reuses_its_memory_and_then_fails_keeps_earlier_answers():
    memory = torch.empty(2)

    def forward(X):
        memory.copy_(2 * X)
        if X[0] == 1:
            raise ValueError("bad")
        return memory

    outcomes = make_pipeline(forward, spec=make_spec(max_batch_size=0)).run(
        [make_request(n, n, batches=False) for n in range(2)]
    )
    assert outcomes[0]["Y"].tolist() == [0, 0]
    assert isinstance(outcomes[1], Failure)


def test_postprocess_gets_and_returns_outputs_by_name():
    seen = []

    def postprocess(outputs):
        seen.append(sorted(outputs))
        return {"N": outputs["N"], "Y": outputs["Y"] + 1}

    outcome = run_one(lambda X: (X, torch.arange(len(X))), spec=TWO, postprocess=postprocess)
    assert seen == [["N", "Y"]]
    assert outcome["Y"].tolist() == [[2, 2], [2, 2]]


def test_postprocess_returning_other_names_fails():
    assert (
        "expected outputs ['Y'], got outputs ['y']"
        in run_one(lambda X: X, postprocess=lambda y: {"y": y["Y"]}).text
    )


def test_collate_joins_requests_of_different_shapes():
    names, batches = [], []

    def collate(name, tensors):
        names.append(name)
        width = max(one.shape[1] for one in tensors)
        return torch.cat([torch.nn.functional.pad(one, (0, width - one.shape[1])) for one in tensors])

    def forward(X):
        batches.append(list(X.shape))
        return X.sum(dim=1, keepdim=True)

    spec = make_spec(inputs=[TensorSpec("X", "FP32", [-1])], outputs=[TensorSpec("Y", "FP32", [1])])
    requests = [
        make_request(n, 1, rows=rows, width=width) for n, (rows, width) in enumerate([(1, 2), (2, 5), (1, 1)])
    ]
    outcomes = make_pipeline(forward, spec=spec, collate=collate).run(requests)
    assert [one["Y"].tolist() for one in outcomes] == [[[2]], [[5], [5]], [[1]]]
    assert (names, batches) == (["X"], [[4, 5]])


def test_collate_is_asked_for_inputs_that_are_arrays_too():
    """As the adapter hands them over where nothing else is to be done."""
    names = []

    def collate(name, tensors):
        names.append(name)
        return torch.cat(tensors)

    requests = [Request("r", HostArray("X", np.ones((1, 2), np.float32)), 1) for _ in range(2)]
    outcomes = make_pipeline(lambda X: 2 * X, collate=collate).run(requests)
    assert [one["Y"].tolist() for one in outcomes] == [[[2, 2]], [[2, 2]]]
    assert names == ["X"]


def test_collate_is_not_asked_where_there_are_no_rows_to_join():
    def collate(name, tensors):
        raise LookupError(name)

    spec = make_spec(max_batch_size=0)
    pipeline = make_pipeline(lambda X: 2 * X, spec=spec, collate=collate)
    [outcome] = pipeline.run([make_request("r", 1, batches=False)])
    assert outcome["Y"].tolist() == [2, 2]


def test_collate_that_raises_fails_like_forward():
    def collate(name, tensors):
        raise LookupError(name)

    assert "LookupError: X" in make_pipeline(lambda X: X, collate=collate).run([make_request("r", 1)])[0].text


def test_forward_runs_in_inference_mode_and_answers_can_be_written():
    modes = SimpleNamespace(inside=None)

    def forward(X):
        modes.inside = torch.is_inference_mode_enabled()
        return X * 1

    run_one(forward)["Y"].numpy()[:] = 3
    assert modes.inside
    assert not torch.is_inference_mode_enabled()
