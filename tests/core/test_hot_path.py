"""What is done once per batch, or not at all, instead of once per request."""

import gc
import weakref

import numpy as np
import pytest
import torch
from core_kit import REPORTER, make_pipeline, make_request, make_spec, start
from host_kit import array_of, names_of, outputs_of

from kindaware import TensorSpec
from kindaware._batch.request import HostArray, Request, concat_arrays
from kindaware._batch.request_context import RequestContext
from kindaware._config.model_spec import ModelSpec
from kindaware._device.runtime import CpuRuntime
from kindaware._tensors.rows import Answer, split
from kindaware._triton.request import TritonRequest
from kindaware._triton.request_reader import RequestReader
from kindaware._triton.response import ResponseBuilder

ROW = np.ones((1, 2), np.float32)


def test_execute_one_input_and_one_output_asks_requests_for_nothing_else(host, pb_utils, monkeypatch):
    def refuse(self):
        raise AssertionError("asked")

    arrays = [np.full((n + 1, 4), n, np.float32) for n in range(3)]
    requests = [host.request(X=array) for array in arrays]
    model = start()
    for name in ("request_id", "requested_output_names"):
        monkeypatch.setattr(pb_utils.InferenceRequest, name, refuse)
    monkeypatch.setattr(host.classes.Tensor, "name", refuse)
    for array, response in zip(arrays, model.execute(requests), strict=True):
        assert np.array_equal(outputs_of(response)[0], 2 * array)


def test_respond_two_outputs_asks_which_are_wanted(host):
    spec = make_spec(outputs=[TensorSpec(name, "FP32", [2]) for name in "YZ"])
    outputs = {name: torch.ones(2, 2) for name in "YZ"}
    asked = [host.request(requested=["Z"]), host.request(requested=["Y"])]
    responses = ResponseBuilder(host.pb_utils, spec, CpuRuntime(), REPORTER).respond(
        asked, split(outputs, [1, 1])
    )
    assert [names_of(response) for response in responses] == [["Z"], ["Y"]]


def test_respond_answers_of_a_batch_are_slices_of_its_memory(host):
    outputs = {"Y": torch.arange(12.0).reshape(6, 2)}
    answers = split(outputs, [1, 3, 2])
    responses = ResponseBuilder(host.pb_utils, make_spec(), CpuRuntime(), REPORTER).respond(
        [host.request(X=ROW)] * 3, answers
    )
    arrays = [outputs_of(response)[0] for response in responses]
    assert [len(array) for array in arrays] == [1, 3, 2]
    assert [array.ctypes.data for array in arrays] == [outputs["Y"][row].data_ptr() for row in (0, 1, 4)]


def test_respond_answers_of_several_batches_are_not_mixed_up(host):
    first, second = ({"Y": torch.full((2, 2), value)} for value in (1.0, 2.0))
    a, b = split(first, [1, 1]), split(second, [1, 1])
    responses = ResponseBuilder(host.pb_utils, make_spec(), CpuRuntime(), REPORTER).respond(
        [host.request(X=ROW)] * 4, [a[0], b[0], a[1], b[1]]
    )
    assert [outputs_of(one)[0].max() for one in responses] == [1, 2, 1, 2]


def test_respond_batch_that_cannot_be_handed_over_fails_whole_and_alone(host):
    good, bad = {"Y": torch.zeros(1, 2)}, {"Y": torch.ones(2, 2, requires_grad=True)}
    responses = ResponseBuilder(host.pb_utils, make_spec(), CpuRuntime(), REPORTER).respond(
        [host.request(X=ROW)] * 3, [*split(good, [1]), *split(bad, [1, 1])]
    )
    assert [one.has_error() for one in responses] == [False, True, True]


def test_respond_bf16_of_a_batch_goes_by_dlpack(host):
    outputs = {"Y": torch.arange(4.0).reshape(2, 2).bfloat16()}
    spec = make_spec(outputs=[TensorSpec("Y", "BF16", [2])])
    responses = ResponseBuilder(host.pb_utils, spec, CpuRuntime(), REPORTER).respond(
        [host.request(X=ROW)] * 2, split(outputs, [1, 1])
    )
    sent = [torch.from_dlpack(tensor) for one in responses for tensor in one.output_tensors()]
    assert [tensor.data_ptr() for tensor in sent] == [row.data_ptr() for row in outputs["Y"]]
    assert torch.equal(torch.cat(sent), outputs["Y"])


def test_answer_is_a_mapping_of_views():
    outputs = {"Y": torch.arange(6.0).reshape(3, 2), "T": np.array([b"a", b"b", b"c"], dtype=object)}
    answer = Answer(outputs, slice(1, 3))
    assert (list(answer), len(answer), "Z" in answer) == (["Y", "T"], 2, False)
    assert answer["Y"].data_ptr() == outputs["Y"][1].data_ptr()
    assert answer["T"].tolist() == [b"b", b"c"]


def test_read_uniform_model_on_the_host_makes_a_tensor_of_an_input_only_when_asked(host):
    request = host.request(X=np.ones((3, 2), np.float32))
    array = array_of(request)
    [read] = RequestReader(make_spec(), CpuRuntime(), REPORTER).read([request])
    assert read.inputs.array is array
    assert (dict(read.inputs).keys(), len(read.inputs), read.rows) == ({"X"}, 1, 3)
    assert read.inputs["X"].data_ptr() == array.ctypes.data
    with pytest.raises(KeyError):
        read.inputs["Y"]


def test_gather_arrays_joins_rows_and_takes_one_as_it_is():
    requests = [Request("r", HostArray("X", np.full((n, 2), n, np.float32)), n) for n in (1, 3)]
    assert concat_arrays(requests).tolist() == [[1, 1], [3, 3], [3, 3], [3, 3]]
    assert concat_arrays(requests[:1]).data_ptr() == requests[0].inputs.array.ctypes.data
    assert concat_arrays([*requests, make_request("r", 1)]) is None


@pytest.mark.parametrize(
    ("changes", "is_uniform"),
    [
        ({}, True),
        ({"inputs": (TensorSpec("X", "FP32", [2]), TensorSpec("W", "INT8", []))}, True),
        ({"inputs": (TensorSpec("X", "FP32", [-1]),)}, False),
        ({"inputs": (TensorSpec("X", "FP32", [2], optional=True),)}, False),
        ({"max_batch_size": 0}, False),
        ({"parameters": {"FORCE_CPU_ONLY_INPUT_TENSORS": "no"}}, False),
        ({"parameters": {"FORCE_CPU_ONLY_INPUT_TENSORS": "yes"}}, True),
    ],
)
def test_is_uniform_only_where_all_requests_have_the_same_inputs(changes, is_uniform):
    given = {"max_batch_size": 8, "inputs": (TensorSpec("X", "FP32", [2]),), **changes}
    assert ModelSpec(name="m", outputs=(TensorSpec("Y", "FP32", [2]),), **given).is_uniform == is_uniform


def test_run_preprocess_that_changes_shapes_separates_requests_of_a_uniform_model():
    batches = []

    def forward(X):
        batches.append(list(X.shape))
        return X[:, :2]

    def preprocess(inputs):
        return {"X": torch.zeros(1, 2 + int(inputs["X"][0, 0]))}

    pipeline = make_pipeline(forward, preprocess=preprocess)
    pipeline.run([make_request(place, value) for place, value in enumerate([0, 1, 0])])
    assert batches == [[2, 2], [1, 3]]


def test_request_reads_id_and_caller_when_they_are_asked_for():
    class Asked:
        request_id, timeout, trace = (staticmethod(lambda one=one: one) for one in ("42", 2_000_000, "t"))

    read = TritonRequest(Asked(), {}, 1, arrived=5.0)
    assert read.id == read.with_inputs({}).id == "42"
    assert read.context() == RequestContext("42", "t", 7.0)
    assert (Request("warm-up", {}, 1).id, Request("warm-up", {}, 1).context()) == ("warm-up", None)


def test_request_detached_lets_go_of_tritons_and_keeps_what_calls_take_over():
    class Asked:
        request_id, timeout, trace = (staticmethod(lambda one=one: one) for one in ("42", 0, None))

    origin = Asked()
    watched = weakref.ref(origin)
    detached = TritonRequest(origin, {}, 1).detached()
    del origin
    gc.collect()
    assert watched() is None
    assert (detached.id, detached.context()) == ("42", RequestContext("42"))
    assert Request("warm-up", {}, 1).detached().id == "warm-up"


def test_request_of_the_librarys_own_is_detached_as_it_is():
    own = Request("warm-up", {"X": torch.ones(1, 2)}, 1).detached(outlives_execute=True)
    assert (own.id, own.context(), own.rows, list(own.inputs)) == ("warm-up", None, 1, ["X"])


def test_request_with_text_alone_has_nothing_on_a_device():
    assert not Request("r", {"X": np.array([[b"text"]], object)}, 1).is_on_device
    assert Request("r", {"X": torch.ones(1, 2, device="meta")}, 1).is_on_device


def test_request_that_outlives_execute_is_detached_without_its_trace():
    class Asked:
        request_id, timeout, trace = (staticmethod(lambda one=one: one) for one in ("42", 0, "t"))

    read = TritonRequest(Asked(), {}, 1)
    assert read.detached().context() == RequestContext("42", "t")
    assert read.detached(outlives_execute=True).context() == RequestContext("42")
