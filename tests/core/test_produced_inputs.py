"""What `preprocess` returns in place of the inputs: other names, data types, shapes, and rows apart."""

import numpy as np
import pytest
import torch
from core_kit import Doubler, make_pipeline, make_plan, make_spec, start, tensor

from kindaware import ConfigError, KindAwareModel, RequestError, TensorSpec
from kindaware._batch.collate import Collator
from kindaware._batch.request import Request
from kindaware._batch.results import Failure
from kindaware._tensors.rows import RaggedRows
from kindaware.testing import ModelHarness

TEXT = TensorSpec("TEXT", "BYTES", [1])
LONG = TensorSpec("Y", "INT64", [1])


def texts(*rows, request_id="r", **more):
    array = np.array([[row.encode()] for row in rows], dtype=object)
    return Request(request_id, {"TEXT": array, **more}, len(rows))


def tokens(inputs):
    """The bytes of each text; two inputs of the same length for a tokeniser's two results."""
    ids = [torch.tensor([*text], dtype=torch.int64) for text in inputs["TEXT"][:, 0]]
    return {"ids": ids, "mask": [torch.ones_like(one) for one in ids]}


def only_ids(inputs):
    return {"ids": tokens(inputs)["ids"]}


def tokenised(forward, *, preprocess=only_ids, pad=None, outputs=(LONG,), inputs=(TEXT,), **more):
    spec = make_spec(inputs=inputs, outputs=outputs)
    pad = {"ids": 0} if pad is None else pad
    return make_pipeline(forward, spec=spec, preprocess=preprocess, pad=pad, **more)


def values(found, name="Y"):
    return [one.text if isinstance(one, Failure) else one[name].tolist() for one in found]


def test_tokens_of_one_request_have_their_true_lengths_beside_companions_and_alone():
    seen = []

    def forward(ids, lengths):
        seen.append((tuple(ids.shape), lengths.tolist()))
        return ids.sum(dim=1, keepdim=True) * 100 + lengths[:, None]

    pipeline = tokenised(forward)
    expected = [[[97 * 100 + 1], [(97 + 98 + 99) * 100 + 3]], [[(97 + 98) * 100 + 2]]]
    assert values(pipeline.run([texts("a", "abc"), texts("ab")])) == expected
    assert values(pipeline.run([texts("a", "abc")])) == expected[:1]
    assert seen == [((3, 3), [1, 3, 2]), ((2, 3), [1, 3])]


def test_several_produced_inputs_go_by_name_whatever_the_order():
    def forward(mask, ids, *, lengths):
        assert lengths["ids"].equal(lengths["mask"])
        return (ids * mask).sum(dim=1, keepdim=True) - mask.sum(dim=1, keepdim=True)

    pipeline = tokenised(forward, preprocess=tokens, pad={"ids": -5, "mask": 0})
    assert values(pipeline.run([texts("a"), texts("bb", "c")])) == [[[96]], [[2 * 97], [98]]]


def test_input_of_the_same_name_may_have_another_data_type():
    def forward(TEXT, lengths):
        return TEXT.sum(dim=1, keepdim=True) + lengths[:, None]

    pipeline = tokenised(forward, preprocess=lambda inputs: {"TEXT": tokens(inputs)["ids"]}, pad={"TEXT": 0})
    assert values(pipeline.run([texts("a"), texts("aa")])) == [[[98]], [[2 * 97 + 2]]]


def test_rows_may_have_more_sizes_than_the_inputs_and_all_are_padded():
    seen = []

    def preprocess(inputs):
        sizes = [len(text) for text in inputs["TEXT"][:, 0]]
        return {"image": [torch.full((size, 5 - size), 1.5) for size in sizes]}

    def forward(image, lengths):
        seen.append((tuple(image.shape), lengths.tolist()))
        return image.sum(dim=(1, 2))[:, None].long()

    pipeline = tokenised(forward, preprocess=preprocess, pad={"image": "0.5"})
    pipeline.run([texts("a", "abcd"), texts("ab")])
    assert seen == [((3, 4, 4), [[1, 4], [4, 1], [2, 3]])]


def test_all_dimensions_are_padded_of_a_declared_input_that_preprocess_makes_anew():
    requests = [Request("r", {"X": torch.ones(1, height, 2)}, 1) for height in (1, 3)]
    for declared in ([-1], [2, 2]):
        plan = make_plan(
            lambda X, lengths: X,
            spec=make_spec(inputs=[TensorSpec("X", "FP32", declared)]),
            preprocess=lambda inputs: inputs,
            pad={"X": 0},
        )
        assert len({plan.padding.key(one) for one in requests}) == 1
        assert plan.padding.lengths(requests)["X"].tolist() == [[1, 2], [3, 2]]


def test_bytes_rows_are_padded_too():
    def preprocess(inputs):
        return {"words": [np.array(text.split(), dtype=object) for text in inputs["TEXT"][:, 0]]}

    def forward(words, lengths):
        return torch.tensor([[len(b"".join(row))] for row in words]) * 10 + lengths[:, None]

    pipeline = tokenised(forward, preprocess=preprocess, pad={"words": b"--"})
    assert values(pipeline.run([texts("a bc"), texts("d")])) == [[[32]], [[31]]]


def test_output_as_long_as_the_tokens_is_cut_to_the_longest_of_its_own_request():
    tags = TensorSpec("TAGS", "INT64", [-1])
    pipeline = tokenised(lambda ids: ids, outputs=(tags,), unpad={"TAGS": ("ids",)})
    found = pipeline.run([texts("a", "bc"), texts("defg")])
    assert values(found, "TAGS") == [[[97, 0], [98, 99]], [[100, 101, 102, 103]]]


def test_output_with_more_dimensions_that_follow_the_tokens_than_they_have_is_refused():
    pairs = TensorSpec("PAIRS", "INT64", [-1, -1])
    pipeline = tokenised(
        lambda ids: ids[:, :, None] * ids[:, None], outputs=(pairs,), unpad={"PAIRS": ("ids", "ids")}
    )
    [found] = pipeline.run([texts("ab")])
    assert "output 'PAIRS': expected at most 1 dimensions that follow input 'ids', got more" in found.text


def test_requests_that_preprocess_makes_alike_share_a_batch_without_pad():
    batches = []

    def preprocess(inputs):
        return {"n": torch.tensor([[len(text)] for text in inputs["TEXT"][:, 0]])}

    def forward(n):
        batches.append(len(n))
        return n

    spec = make_spec(inputs=[TEXT], outputs=[LONG])
    pipeline = make_pipeline(forward, spec=spec, preprocess=preprocess)
    assert values(pipeline.run([texts("a", "bb"), texts("ccc")])) == [[[1], [2]], [[3]]]
    assert batches == [3]


def test_rows_apart_of_one_size_need_no_pad_and_others_are_refused_for_their_request():
    spec = make_spec(inputs=[TEXT], outputs=[LONG])
    pipeline = make_pipeline(lambda ids: ids.sum(dim=1, keepdim=True), spec=spec, preprocess=only_ids)
    found = values(pipeline.run([texts("a", "b"), texts("c", "dd")]))
    assert found[0] == [[97], [98]]
    assert "expected rows of one size, since pad does not name it, got shapes [[1], [2]]" in found[1]


def test_rows_apart_of_an_input_that_pad_does_not_name_are_refused_beside_one_that_it_names():
    pipeline = tokenised(lambda ids, mask: ids[:, :1], preprocess=tokens)
    [found] = pipeline.run([texts("a", "bb")])
    assert "input 'mask': expected rows of one size, since pad does not name it, got shapes [[1], [2]]" in (
        found.text
    )


@pytest.mark.parametrize(
    "rows", [[torch.ones(1), torch.ones(1, 1)], [torch.ones(1), torch.ones(1).long()]], ids=["ndim", "dtype"]
)
def test_rows_apart_that_no_tensor_can_hold_are_refused(rows):
    [found] = tokenised(lambda ids: ids, preprocess=lambda inputs: {"ids": rows}).run([texts("a", "b")])
    assert "to tensors with 2 rows, got {'ids': " in found.text


def test_rows_apart_of_one_size_are_joined():
    plan = make_plan(lambda ids: ids, spec=make_spec(inputs=[TEXT]), preprocess=only_ids)
    rows = RaggedRows([torch.tensor([1, 2]), torch.tensor([3, 4])])
    requests = [Request("r", {"ids": one}, 2) for one in (rows, torch.zeros(2, 2, dtype=torch.int64))]
    parts, _ = Collator(plan, land=len).parts(requests)
    assert torch.cat(parts["ids"]).tolist() == [[1, 2], [3, 4], [0, 0], [0, 0]]


def test_rows_apart_reach_collate_as_a_list():
    def collate(name, tensors):
        rows = [row for tensor in tensors for row in tensor]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    spec = make_spec(inputs=[TEXT], outputs=[LONG])
    pipeline = make_pipeline(
        lambda ids: ids.sum(dim=1, keepdim=True), spec=spec, preprocess=only_ids, collate=collate
    )
    assert values(pipeline.run([texts("a", "bb"), texts("c")])) == [[[97], [196]], [[99]]]


def test_optional_results_have_batches_of_their_own():
    batches = []

    def preprocess(inputs):
        made = tokens(inputs)
        return made if len(inputs["TEXT"][0, 0]) > 1 else {"ids": made["ids"]}

    def forward(ids, mask=None, *, lengths):
        batches.append((len(ids), mask is None, sorted(lengths)))
        return lengths["ids"][:, None]

    pipeline = tokenised(forward, preprocess=preprocess, pad={"ids": 0, "mask": 0})
    assert values(pipeline.run([texts("a"), texts("bb"), texts("c"), texts("ddd")])) == [
        [[1]],
        [[2]],
        [[1]],
        [[3]],
    ]
    assert batches == [(2, True, ["ids"]), (2, False, ["ids", "mask"])]


def test_parts_of_a_batch_that_fails_are_padded_anew():
    seen = []

    def forward(ids, lengths):
        seen.append((tuple(ids.shape), lengths.tolist()))
        if (ids == ord("!")).any():
            raise RequestError("no exclamation")
        return lengths[:, None]

    found = tokenised(forward).run([texts("a", "bb"), texts("ccc"), texts("!!!!")])
    assert values(found) == [[[1], [2]], [[3]], "no exclamation"]
    assert seen == [((4, 4), [1, 2, 3, 4]), ((3, 3), [1, 2, 3]), ((1, 4), [4])]


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (
            {"other": torch.ones(1, 1)},
            "expected a mapping of ['TEXT'], or of ['ids'], to tensors with 1 rows",
        ),
        ({}, "to tensors with 1 rows, got {}"),
        ({"ids": [torch.ones(1)] * 2}, "to tensors with 1 rows, got {'ids': [[1], [1]]}"),
        ({"ids": []}, "to tensors with 1 rows, got {'ids': []}"),
        ({"ids": [[1, 2]]}, "to tensors with 1 rows"),
        ({"ids": torch.ones(1)}, "expected a size behind the rows, to be padded, got shape [1]"),
        ({"ids": torch.ones(1, 2) == 1}, "got BOOL, which 7 is no value of"),
        (
            {"TEXT": torch.ones(1, 2)},
            "preprocess input 'ids', which is padded: expected it, since pad names it",
        ),
    ],
)
def test_what_can_not_be_passed_on_fails_its_request_alone(made, text):
    def preprocess(inputs):
        return made if inputs["TEXT"][0, 0] == b"bad" else only_ids(inputs)

    pipeline = tokenised(lambda ids: ids[:, :1], preprocess=preprocess, pad={"ids": 7})
    good, bad = values(pipeline.run([texts("a"), texts("bad")]))
    assert good == [[97]]
    assert text in bad


@pytest.mark.parametrize("fill", ["x", True, None])
def test_fill_that_the_produced_data_type_lacks_fails_its_request(fill):
    [found] = values(tokenised(lambda ids: ids, pad={"ids": fill}).run([texts("a")]))
    assert f"expected a data type of the value in pad, got INT64, which {fill!r} is no value of" in found


def test_forward_that_takes_any_name_has_any_name_padded():
    pipeline = tokenised(lambda **made: made["ids"].sum(dim=1, keepdim=True))
    assert values(pipeline.run([texts("a"), texts("bc")])) == [[[97]], [[98 + 99]]]


def test_padded_inputs_that_a_batch_may_lack_are_the_optional_ones():
    of_names = make_plan(
        lambda ids, mask=None: ids,
        spec=make_spec(inputs=[TEXT]),
        preprocess=tokens,
        pad={"ids": 0, "mask": 0},
    )
    of_inputs = make_plan(
        lambda X, Z=None: X,
        spec=make_spec(inputs=[TensorSpec("X", "FP32", [-1]), TensorSpec("Z", "FP32", [-1], optional=True)]),
        preprocess=lambda inputs: inputs,
        pad={"X": 0, "Z": 0},
    )
    assert (of_names.padding.required, of_inputs.padding.required) == ({"ids"}, {"X"})


def test_declared_inputs_are_refused_where_forward_has_other_parameters():
    pipeline = tokenised(lambda ids, mask: ids, preprocess=lambda inputs: inputs)
    [found] = pipeline.run([texts("a")])
    assert "expected a mapping of ['ids', 'mask'] to tensors with 1 rows, got {'TEXT': [1, 1]}" in found.text


def test_names_of_the_inputs_are_the_only_ones_where_forward_takes_none_by_name():
    def forward(text, /):
        return text

    spec = make_spec(inputs=[TEXT], outputs=[TEXT])
    [found] = make_pipeline(forward, spec=spec, preprocess=lambda inputs: {}).run([texts("a")])
    assert "preprocess: expected a mapping of ['TEXT'] to tensors with 1 rows, got {}" in found.text


class Tagger(KindAwareModel):
    """Sums tokens; what a class must say about text."""

    pad = {"ids": 0}

    def load(self):
        """Make nothing."""

    def preprocess(self, inputs):
        return tokens(inputs)

    def forward(self, ids, mask, lengths):
        return (ids * mask).sum(dim=1, keepdim=True) + lengths[:, None]


STRINGS = {
    "input": [tensor("TEXT", [1], "TYPE_STRING")],
    "output": [tensor("Y", [1], "TYPE_INT64")],
}


def test_model_loads_with_names_of_its_own_and_its_warm_up_checks_them():
    assert start(Tagger, **STRINGS)
    wrong = type("Wrong", (Tagger,), {"preprocess": lambda self, inputs: {"tokens": torch.ones(1, 1)}})
    with pytest.raises(ConfigError, match=r"expected a mapping of \['ids', 'mask'\] to tensors"):
        start(wrong, **STRINGS)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"preprocess": None}, "expected a parameter for each of the 1 inputs"),
        ({"pad": {"tokens": 0}}, "parameters of forward that preprocess returns, .*, got 'tokens'"),
        ({"pad": {"TEXT": b""}}, "preprocess input 'TEXT', which is padded: expected it, since pad names it"),
        ({"forward": lambda self, ids, /, mask: ids, "pad": None}, "expected a parameter for each of the 1"),
    ],
)
def test_names_that_nothing_can_fill_are_refused(members, text):
    with pytest.raises(ConfigError, match=text):
        start(type("Changed", (Tagger,), members), **STRINGS)


def test_misspelled_input_is_refused_beside_preprocess_too():
    members = {"preprocess": lambda self, inputs: inputs, "forward": lambda self, TEXT, SCORE: SCORE}
    two = {**STRINGS, "input": [*STRINGS["input"], tensor("SCORES", [1])]}
    with pytest.raises(ConfigError, match="'SCORE' looks like 'SCORES'"):
        start(type("Changed", (Doubler,), members), **two)


def test_stream_gets_what_preprocess_returns_by_name():
    def stream(self, ids, mask):
        yield (ids * mask).sum(dim=1, keepdim=True)

    model = type("Streams", (Tagger,), {"stream": stream, "forward": None, "pad": None})
    config = {
        "name": "m",
        "max_batch_size": 4,
        "input": [{"name": "TEXT", "data_type": "TYPE_STRING", "dims": [1]}],
        "output": [{"name": "Y", "data_type": "TYPE_INT64", "dims": [1]}],
        "model_transaction_policy": {"decoupled": True},
    }
    with ModelHarness(model, config=config) as harness:
        [item] = harness.stream(TEXT=np.array([[b"ab"], [b"cd"]], dtype=object))
    assert item.outputs["Y"].tolist() == [[195], [199]]
