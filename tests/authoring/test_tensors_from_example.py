"""What is read off a run on an example: names, data types, sizes, and whether the callable batches."""

import dataclasses
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn

from kindaware import ConfigError
from kindaware._authoring.tensors_from_example import tensors_from_example


def specs_of(function, example, **options):
    found = tensors_from_example(function, example, **options)
    return [*map(repr, found.input_specs)], [*map(repr, found.output_specs)]


class Encoder(nn.Module):
    """Returns what a model of transformers returns: fields by name, one of them None."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 8)

    def forward(self, input_ids, attention_mask=None):
        states = self.embedding(input_ids)
        return {"last_hidden_state": states, "pooler_output": states.mean(1), "past_key_values": None}


IDS = torch.arange(10).view(2, 5)


def test_module_gets_names_from_its_forward_and_leaves_the_batch_out():
    found = tensors_from_example(nn.Linear(4, 3), torch.rand(2, 4))
    assert found.input_specs[0].name == "input"
    assert found.input_specs[0].shape == (4,)
    assert found.output_specs[0].shape == (3,)
    assert found.batches
    assert found.result_form == "one"


def test_sizes_of_whole_numbers_that_may_differ_are_dynamic_together():
    found = tensors_from_example(Encoder(), {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)})
    assert [spec.shape for spec in found.input_specs] == [(-1,), (-1,)]
    assert {spec.name: spec.shape for spec in found.output_specs} == {
        "last_hidden_state": (-1, 8),
        "pooler_output": (8,),
    }
    assert found.left_out == ("past_key_values",)
    assert "-1 since 4 works as well as 5" in str(found)


@pytest.mark.parametrize(("vary_sizes", "shape"), [(None, (4,)), (True, (-1,)), (False, (4,))])
def test_sizes_of_floating_point_numbers_are_dynamic_on_demand(vary_sizes, shape):
    found = tensors_from_example(lambda x: x * 2, torch.rand(2, 4), vary_sizes=vary_sizes)
    assert found.input_specs[0].shape == shape
    assert found.output_specs[0].shape == shape


def test_a_size_that_the_module_fixes_stays():
    found = tensors_from_example(nn.Linear(4, 3), torch.rand(2, 4), vary_sizes=True)
    assert found.input_specs[0].shape == (4,)


Pair = namedtuple("Pair", ["low", "high"])


@dataclasses.dataclass
class Scores:
    best: torch.Tensor
    all: torch.Tensor


@pytest.mark.parametrize(
    ("wrap", "names", "form"),
    [
        (lambda a, b: (a, b), ["OUTPUT0", "OUTPUT1"], "sequence"),
        (lambda a, b: [a], ["OUTPUT"], "sequence"),
        (lambda a, b: {"A": a, "B": b}, ["A", "B"], "named"),
        (Pair, ["low", "high"], "named"),
        (Scores, ["best", "all"], "named"),
        (lambda a, b: torch.return_types.max((a, b)), ["OUTPUT0", "OUTPUT1"], "sequence"),
    ],
)
def test_outputs_are_named_after_what_is_returned(wrap, names, form):
    found = tensors_from_example(lambda X: wrap(X, X + 1), torch.rand(2, 4))
    assert [spec.name for spec in found.output_specs] == names
    assert found.result_form == form


def test_texts_and_arrays_keep_their_form():
    def lengths(text):
        return [one.upper() for one in text], np.array([len(one) for one in text])

    found = tensors_from_example(lengths, ["a", "bb"])
    assert [(one.form, one.is_scalar, repr(one.spec)) for one in (*found.inputs, *found.outputs)] == [
        ("texts", True, "TensorSpec('text', 'BYTES', [1])"),
        ("texts", True, "TensorSpec('OUTPUT0', 'BYTES', [1])"),
        ("array", True, "TensorSpec('OUTPUT1', 'INT64', [1])"),
    ]


def test_one_text_does_not_batch():
    found = tensors_from_example(lambda text: text * 2, "a")
    assert not found.batches
    assert found.inputs[0].form == "text"
    assert found.why_batches == "text has no dimension"


@pytest.mark.parametrize(
    ("function", "example", "why"),
    [
        (lambda X: X - X.mean(0), torch.rand(3, 4), "what a row gets depends on the others"),
        (lambda X: X.sum(0), torch.rand(3, 4), r"3 rows give OUTPUT \[4\], 6 give \[4\]"),
        (lambda X: X.view(3, 2, 2), torch.rand(3, 4), "with 6 rows it raised RuntimeError"),
        (lambda X, Y: X + Y[0], (torch.rand(3, 4), torch.rand(1, 4)), r"differ \(X 3, Y 1\)"),
    ],
)
def test_callable_that_does_not_batch_keeps_all_sizes(function, example, why):
    found = tensors_from_example(function, example)
    assert not found.batches
    assert found.input_specs[0].shape == (3, 4)
    with pytest.raises(ConfigError, match=why):
        tensors_from_example(function, example, batches=True)


def test_random_callable_batches_and_says_what_is_not_known():
    found = tensors_from_example(lambda X: X + torch.rand_like(X), torch.rand(3, 4))
    assert found.batches
    assert "is random" in found.why_batches


def test_module_runs_in_eval_mode_without_gradients_and_keeps_its_mode():
    module = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(4))
    module[0].eval()
    assert tensors_from_example(module, torch.rand(3, 4)).batches
    assert [one.training for one in module.modules()] == [True, False, True]
    assert module[1].num_batches_tracked == 0


def test_generator_streams_and_is_closed():
    closed = []

    def count(X):
        try:
            while True:
                yield X
        finally:
            closed.append(True)

    found = tensors_from_example(count, torch.rand(1, 2))
    assert found.streams
    assert closed == [True, True]


def test_asynchronous_function_is_awaited():
    async def double(X):
        return X * 2

    assert specs_of(double, torch.rand(1, 2)) == (
        ["TensorSpec('X', 'FP32', [2])"],
        ["TensorSpec('OUTPUT', 'FP32', [2])"],
    )


def test_variadic_arguments_are_numbered():
    found = tensors_from_example(
        lambda *tensors: tensors[0] + tensors[1], (torch.rand(2, 3), torch.rand(2, 3))
    )
    assert [spec.name for spec in found.input_specs] == ["INPUT0", "INPUT1"]
    assert not found.by_keyword


def test_arguments_are_passed_as_in_the_example():
    assert tensors_from_example(nn.Linear(2, 2), {"input": torch.rand(1, 2)}).by_keyword
    assert not tensors_from_example(nn.Linear(2, 2), torch.rand(1, 2)).by_keyword


def test_outputs_that_no_request_can_carry_are_left_out_by_name():
    def model(X):
        return {"logits": X, "cache": object()}

    with pytest.raises(ConfigError, match=r"output 'cache': expected a tensor.*outputs=\['logits'\]"):
        tensors_from_example(model, torch.rand(1, 2))
    assert tensors_from_example(model, torch.rand(1, 2), outputs=["logits"]).left_out == ("cache",)
    with pytest.raises(ConfigError, match=r"expected names out of \['logits', 'cache'\], got \['scores'\]"):
        tensors_from_example(model, torch.rand(1, 2), outputs=["scores"])


@pytest.mark.parametrize(
    ("function", "example", "text"),
    [
        (lambda X: 1 / 0, torch.rand(1), "got ZeroDivisionError: division by zero; pass values like"),
        (lambda X: X * 1j, torch.rand(1), "got torch.complex64; convert it"),
        (lambda X: X, 3.5, r"got float 3.5; pass torch.tensor\(\[\[3.5\]\]\)"),
        (lambda X: X, None, "got NoneType None; leave it out"),
        (lambda X: X, [[1, 2]], "make it a tensor"),
        (
            lambda X: X,
            {"Y": torch.rand(1)},
            r"expected arguments for \(X\), got missing a required argument: 'X'",
        ),
        (lambda: 3, (), "expected at least one input, got none"),
        (lambda X: None, torch.rand(1), "expected at least one output, got NoneType"),
        (lambda X: X, torch.rand(0, 4), "expected at least one row"),
        (lambda X: X, np.array([1, None], object), "an array of Python objects"),
        (lambda X: X, torch.eye(2).to_sparse(), "expected a dense tensor"),
        (torch.relu, torch.rand(1, 2), "without a signature; call it in a function"),
        (lambda X: iter(()), torch.rand(1), "expected at least one item, got none"),
    ],
)
def test_what_can_not_be_served_is_refused(function, example, text):
    with pytest.raises(ConfigError, match=text):
        tensors_from_example(function, example)
