"""What a hook may return: named, checked, run through `postprocess` and fetched, one step at a time."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from core_kit import make_plan, make_request, make_spec

from kindaware import TensorSpec
from kindaware._batch.output_stage import OutputStage
from kindaware._batch.outputs import NO_BATCH_DIMENSION, check_outputs, name_outputs
from kindaware._device.staging import HostStaging
from kindaware._errors import OutputError

Y = TensorSpec("Y", "FP32", [2])
Z = TensorSpec("Z", "FP32", [2])
WORDS = TensorSpec("WORDS", "BYTES", [-1])
TEXTS = [WORDS, TensorSpec("TAGS", "BYTES", [-1])]


def named(returned, *outputs, max_batch_size=8):
    """The outputs that `forward` returned, by name; of a model with the output Y, unless said."""
    return name_outputs(returned, make_spec(outputs=outputs, max_batch_size=max_batch_size), "forward")


def checked(value, output=Y, rows=(2,)):
    """The output of a model that has one, after the checks."""
    spec = make_spec(outputs=[output], max_batch_size=8 if rows[0] else 0)
    given = {output.name: value}
    found = check_outputs(given, spec, rows=rows, cast=False, computed_dtype=None, hook="forward")
    return found[output.name]


def words(*texts):
    return np.array(texts, dtype=object)


def test_one_tensor_for_two_outputs_is_refused():
    with pytest.raises(OutputError, match=r"expected 2 outputs \['Y', 'Z'\], got 1 of type Tensor"):
        named(torch.ones(2, 2), Y, Z)


def test_number_in_the_place_of_a_tensor_is_refused():
    with pytest.raises(OutputError, match=r"output 'Y': expected a torch.Tensor, got int; correct forward"):
        named({"Y": 1})


def test_empty_list_in_the_place_of_a_tensor_is_refused():
    with pytest.raises(OutputError, match=r"output 'Y': expected a torch.Tensor, got list"):
        named({"Y": []})


def test_no_outputs_at_all_are_refused_with_their_number():
    with pytest.raises(OutputError, match=r"expected 1 outputs \['Y'\], got 0 of type list"):
        named([])


def test_object_that_only_looks_like_a_named_tuple_is_none():
    with pytest.raises(OutputError, match=r"expected a torch.Tensor, got SimpleNamespace"):
        named(SimpleNamespace(_fields=["Y"]))


@dataclasses.dataclass
class Record:
    Y: object
    Z: object


def test_dataclass_in_the_place_of_its_instance_is_refused():
    with pytest.raises(OutputError, match=r"expected 2 outputs .*, got 1 of type type"):
        named(Record, Y, Z)


def test_dataclass_per_request_is_refused():
    with pytest.raises(OutputError, match="got a list of Records, which may be one per request"):
        named([Record(torch.ones(2), torch.ones(2))] * 2, Y, Z)


def test_list_of_texts_per_request_is_refused_of_two_outputs():
    with pytest.raises(OutputError, match="got a list of lists, which may be one per request"):
        named([["a", "b"], ["c", "d"]], *TEXTS)


def test_list_of_tensors_per_request_is_refused_of_one_output():
    with pytest.raises(OutputError, match="got a list of lists, which may be one per request"):
        named([[torch.ones(2)], [torch.ones(2)]])


def test_list_of_a_single_batch_is_that_output():
    batch, texts = torch.ones(2, 2), words(["a"], ["b"])
    assert named([batch])["Y"] is batch
    assert named([texts], WORDS)["WORDS"] is texts


def test_list_of_a_single_row_stays_a_list():
    row = torch.ones(2)
    assert named([row])["Y"][0] is row


def test_list_of_a_single_tensor_is_the_output_of_a_model_without_a_batch_dimension():
    value = torch.ones(2)
    assert named([value], max_batch_size=0)["Y"] is value


def test_tuple_of_tensors_is_no_output_of_a_model_without_a_batch_dimension():
    with pytest.raises(OutputError, match=r"expected 1 outputs \['Y'\], got 2 of type tuple"):
        named((torch.ones(2), torch.ones(2)), max_batch_size=0)


def test_model_without_a_batch_dimension_takes_a_list_of_one_by_name():
    [found] = checked([torch.ones(2)], rows=(None,))
    assert found.tolist() == [1, 1]


def test_model_without_a_batch_dimension_refuses_a_list_of_two():
    with pytest.raises(OutputError, match="expected one tensor for each of the 1 requests"):
        checked([torch.ones(2), torch.ones(2)], rows=(None,))


def test_number_in_the_place_of_text_is_refused():
    with pytest.raises(OutputError, match=r"output 'WORDS': expected an array .*, got int"):
        checked(1, WORDS)


def test_empty_list_of_text_has_no_rows():
    with pytest.raises(OutputError, match=r"expected 2 rows, as many as the batch has, got shape \[0\]"):
        checked([], WORDS)


def test_lists_of_text_of_different_length_are_refused_where_the_size_is_declared():
    with pytest.raises(OutputError, match="lists of uneven length"):
        checked([["a"], ["b", "c"]], TensorSpec("WORDS", "BYTES", [1]), rows=(1, 1))


def test_rows_of_text_may_be_arrays_and_lists_side_by_side():
    found = checked([words("a"), ["b"]], WORDS, rows=(1, 1))
    assert [one.tolist() for one in found] == [[[b"a"]], [[b"b"]]]


def test_rows_of_text_of_one_length_are_one_array_for_the_batch():
    assert checked([["a"], ["b"]], WORDS).tolist() == [[b"a"], [b"b"]]


def test_text_with_too_many_dimensions_is_refused_with_its_shape():
    with pytest.raises(OutputError, match=r"expected shape \[B, -1\], got shape \[2, 1, 1, 1\]"):
        checked([[[["a"]]], [[["b"]]]], WORDS, rows=(1, 1))


def test_tensor_that_needs_nothing_is_passed_on_as_it_is():
    batch = torch.ones(2, 2)
    assert checked(batch) is batch


def test_tensor_with_strides_becomes_contiguous():
    batch = torch.arange(4.0).reshape(2, 2)
    found = checked(batch.T)
    assert found.is_contiguous()
    assert found.tolist() == [[0, 2], [1, 3]]


def test_tensor_that_is_negated_lazily_gets_its_sign():
    found = checked(torch._neg_view(torch.ones(2, 2)))
    assert found.numpy().tolist() == [[-1, -1], [-1, -1]]


def refusal_of(shape, rows=(None,)):
    """Why an output Y of this shape is refused."""
    with pytest.raises(OutputError, match=r"output 'Y': expected shape") as caught:
        checked(torch.ones(shape), rows=rows)
    return str(caught.value)


def test_single_row_of_a_model_without_a_batch_dimension_is_told_how_to_get_one():
    assert NO_BATCH_DIMENSION in refusal_of([1, 2])


def test_output_that_is_no_single_row_is_told_to_correct_forward():
    for shape in ([3, 2], [1, 3]):
        assert refusal_of(shape).endswith("; correct forward, or the outputs in config.pbtxt")
    assert refusal_of([1, 1, 2], rows=(1,)).endswith("; correct forward, or the outputs in config.pbtxt")


class Noting(HostStaging):
    """Notes what it is asked for."""

    def __init__(self):
        super().__init__()
        self.log = []

    def land(self, values):
        self.log.append([list(one.shape) for one in values])

    def fetch(self, outputs):
        self.log.append(outputs)
        return super().fetch(outputs)


def test_finish_waits_for_what_forward_and_what_postprocess_made():
    staging = Noting()

    def postprocess(outputs):
        staging.log.append("postprocess")
        return outputs["Y"][:, :2]

    stage = OutputStage(make_plan(lambda X: X, postprocess=postprocess), staging)
    stage.finish({"Y": torch.ones(2, 3)}, [make_request("r", 1, rows=2)])
    assert staging.log == [[[2, 3]], "postprocess", [[2, 2]]]


def test_finish_names_the_hook_that_returned_what_does_not_fit():
    requests = [make_request("r", 1)]
    wrong = {"Y": torch.ones(1, 3)}
    stage = OutputStage(make_plan(lambda X: X), HostStaging())
    with pytest.raises(OutputError, match=r"got shape .*; correct forward, or"):
        stage.finish(wrong, requests)
    stage = OutputStage(make_plan(lambda X: X, postprocess=lambda outputs: wrong), HostStaging())
    with pytest.raises(OutputError, match=r"got shape .*; correct postprocess, or"):
        stage.finish(wrong, requests)


def test_fetch_asks_nothing_of_the_device_for_text():
    staging, outputs = Noting(), {"Y": torch.ones(1, 2), "WORDS": words(["a"])}
    stage = OutputStage(make_plan(lambda X: X, spec=make_spec(outputs=[Y, WORDS])), staging)
    assert stage.fetch(outputs) == outputs
    assert staging.log == [{"Y": outputs["Y"]}]


def test_fetch_of_tensors_alone_copies_no_mapping():
    staging, outputs = Noting(), {"Y": torch.ones(1, 2)}
    OutputStage(make_plan(lambda X: X), staging).fetch(outputs)
    assert staging.log[0] is outputs
