"""Inputs and outputs of type BYTES, without a server: joined, checked, scattered, never on a device."""

import numpy as np
import pytest
import torch
from core_kit import answers_of, make_pipeline, make_spec, start, tensor

from kindaware import ConfigError, KindAwareModel, TensorSpec
from kindaware._batch.request import Request
from kindaware._batch.results import Failure
from kindaware._errors import OutputError
from kindaware._tensors.bytes_arrays import to_bytes

TEXT = TensorSpec("TEXT", "BYTES", [-1])
NAMES = TensorSpec("NAMES", "TYPE_STRING", [-1])


def texts(*rows):
    """An array [b, n] of bytes, as the stub makes it."""
    array = np.empty((len(rows), len(rows[0])), dtype=object)
    for place, row in enumerate(rows):
        array[place, :] = row
    return array


def text_request(name, *rows):
    return Request(name, {"TEXT": texts(*rows)}, len(rows))


def text_pipeline(forward, **hooks):
    unpad = {NAMES.name: (None,)} if "collate" in hooks else None
    return make_pipeline(forward, spec=make_spec(inputs=[TEXT], outputs=[NAMES]), unpad=unpad, **hooks)


def test_requests_with_bytes_are_joined_and_their_answers_cut_by_rows():
    batches = []

    def forward(TEXT):
        batches.append(TEXT)
        return TEXT

    requests = [
        text_request("a", [b"1\0"], [b"\xff"]),
        text_request("b", [b""]),
        text_request("c", [b"2", b"3"]),
    ]
    found = text_pipeline(forward).run(requests)

    assert [one.shape for one in batches] == [(3, 1), (1, 2)]
    assert all(one.dtype == object for one in batches)
    assert [one["NAMES"].tolist() for one in found] == [[[b"1\0"], [b"\xff"]], [[b""]], [[b"2", b"3"]]]
    assert all(one["NAMES"].flags.c_contiguous for one in found)


@pytest.mark.parametrize(
    "returned",
    [
        [["é"], ["b\0"]],
        (("é",), ("b\0",)),
        [["é".encode()], ["b\0"]],
        np.array([["é"], ["b\0"]], dtype=object),
        [np.array([["é"], ["b\0"]], dtype=object)],
        {"NAMES": [["é"], ["b\0"]]},
        {"NAMES": [[np.str_("é")], [np.bytes_(b"b")]]},
    ],
    ids=["list", "tuple", "mixed", "array", "outputs", "mapping", "scalars"],
)
def test_bytes_output_in_every_form_becomes_an_array_of_bytes(returned):
    (answer,) = text_pipeline(lambda TEXT: returned).run([text_request("a", [b"x"], [b"y"])])
    assert answer["NAMES"].shape == (2, 1)
    assert [bytes(one).rstrip(b"\0") for one in answer["NAMES"].ravel()] == ["é".encode(), b"b"]
    assert all(type(one) is bytes for one in answer["NAMES"].ravel())


def test_bytes_output_as_an_array_of_text_is_encoded():
    assert to_bytes(np.array(["é", "ab"]), "x").tolist() == ["é".encode(), b"ab"]


def test_bytes_output_without_rows_keeps_its_shape():
    assert to_bytes([], "x").shape == (0,)
    assert to_bytes([[], []], "x").shape == (2, 0)
    assert to_bytes(np.empty((3, 0), dtype=object), "x").shape == (3, 0)


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (torch.zeros(1, 1), "got Tensor;"),
        ("ab", "got str;"),
        (np.array([[b"a"]]), r"an array of dtype \|S1"),
        (np.zeros((1, 1)), "an array of dtype float64"),
        ([[1]], "an element of type int"),
        ([[None]], "an element of type NoneType"),
        ([["\ud800"]], "text that can't be sent as UTF-8"),
        ([["a"], "b"], "lists of uneven length"),
    ],
    ids=repr,
)
def test_bytes_output_of_another_kind_is_refused_with_what_it_is(returned, got):
    with pytest.raises(OutputError, match=rf"x: expected an array of dtype object or a list of .*{got}"):
        to_bytes(returned, "x")


def test_bytes_output_with_too_few_rows_is_refused():
    (answer,) = text_pipeline(lambda TEXT: ["a"]).run([text_request("a", [b"x"], [b"y"])])
    assert "output 'NAMES': expected 2 rows, as many as the batch has, got shape [1]" in answer.text


def test_tensor_output_given_as_a_list_is_refused():
    (answer,) = make_pipeline(lambda X: {"Y": ["a"]}).run([Request("a", {"X": torch.zeros(1, 2)}, 1)])
    assert "output 'Y': expected a torch.Tensor, got list" in answer.text


def test_tensors_and_bytes_side_by_side_keep_their_rows_after_a_second_forward():
    """The first group's outputs are copied before the second group's forward; arrays need no copy."""
    buffer = torch.zeros(1, 2)
    names = np.empty((1, 1), dtype=object)
    spec = make_spec(outputs=[TensorSpec("Y", "FP32", [2]), NAMES])

    def forward(X):
        buffer[:] = X[:, :2]
        names[0, 0] = str(int(X[0, 0]))
        return buffer, names

    pipeline = make_pipeline(forward, spec=spec)
    found = pipeline.run([Request(str(n), {"X": torch.full((1, n), float(n))}, 1) for n in (2, 3)])
    assert answers_of(found) == [2.0, 3.0]
    assert [one["NAMES"].tolist() for one in found] == [[[b"2"]], [[b"3"]]]


def test_one_bad_text_fails_its_request_and_no_other():
    def forward(TEXT):
        return [[one.decode() for one in row] for row in TEXT]

    found = text_pipeline(forward).run([text_request("a", [b"x"]), text_request("b", [b"\xff"])])
    assert found[0]["NAMES"].tolist() == [[b"x"]]
    assert isinstance(found[1], Failure)


def test_preprocess_and_collate_may_turn_bytes_into_tensors():
    def preprocess(inputs):
        return {"TEXT": torch.tensor([[len(one) for one in row] for row in inputs["TEXT"]])}

    def collate(name, tensors):
        return torch.cat(tensors)

    def forward(TEXT):
        return [[str(int(one))] for one in TEXT.sum(dim=1)]

    requests = [text_request("a", [b"x"]), text_request("b", [b"yy"], [b""])]
    for hooks in ({"preprocess": preprocess}, {"preprocess": preprocess, "collate": collate}):
        found = text_pipeline(forward, **hooks).run(requests)
        assert [one["NAMES"].tolist() for one in found] == [[[b"1"]], [[b"2"], [b"0"]]]


def test_collate_that_returns_a_list_fails_with_what_is_expected():
    (found,) = text_pipeline(lambda TEXT: TEXT, collate=lambda name, all_: [1]).run(
        [text_request("a", [b"x"])]
    )
    assert (
        "collate of input 'TEXT': expected a torch.Tensor, or an array of dtype object, got list"
        in found.text
    )


def test_postprocess_gets_what_forward_returned_and_may_make_bytes_of_it():
    def postprocess(outputs):
        return {"NAMES": [[str(one)] for one in outputs["NAMES"].tolist()]}

    pipeline = text_pipeline(lambda TEXT: torch.arange(len(TEXT)), postprocess=postprocess)
    (found,) = pipeline.run([text_request("a", [b"x"], [b"y"])])
    assert found["NAMES"].tolist() == [[b"0"], [b"1"]]


class Upper(KindAwareModel):
    """TEXT in upper case."""

    def load(self):
        self.seen = []

    def forward(self, TEXT):
        self.seen.append(TEXT)
        return [[one.upper() for one in row] for row in TEXT]


def test_warm_up_of_a_model_with_bytes_uses_empty_ones():
    model = start(
        Upper,
        input=[tensor("TEXT", [2], "TYPE_STRING")],
        output=[tensor("NAMES", [2], "TYPE_STRING")],
    )
    assert [one.tolist() for one in model.seen] == [[[b"", b""]]]


def test_shape_that_bytes_can_not_have_is_blamed_on_the_request():
    def forward(TEXT):
        if TEXT.shape[1] > 1:
            raise ValueError("one text per row")
        return TEXT

    (found,) = text_pipeline(forward).run([text_request("a", [b"x", b"y"])])
    assert found.code == "INVALID_ARG"
    assert "{'TEXT': [1, 2]}" in found.text


def test_cuda_graphs_of_a_model_with_bytes_are_refused():
    with pytest.raises(
        ConfigError, match="expected tensors that lie on the device, got 'TEXT' of type BYTES"
    ):
        start(
            Upper,
            input=[tensor("TEXT", [2], "TYPE_STRING")],
            output=[tensor("NAMES", [2], "TYPE_STRING")],
            parameters={"kindaware.cuda_graphs": "1"},
        )


def test_auto_complete_declares_bytes_as_triton_calls_them():
    assert TEXT.to_config()["data_type"] == NAMES.to_config()["data_type"] == "TYPE_STRING"
    assert repr(NAMES) == "TensorSpec('NAMES', 'BYTES', [-1])"
