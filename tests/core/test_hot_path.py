"""What is done once per batch, or not at all, instead of once per request."""

import gc
import sys
import weakref

import numpy as np
import pb_fakes
import pytest
import torch
from core_kit import make_pipeline, make_request, make_spec, start
from pb_fakes import InferenceRequest, Tensor

from kindaware import TensorSpec
from kindaware._batch.request import HostArray, Request, concat_arrays
from kindaware._batch.request_context import RequestContext
from kindaware._config.model_spec import ModelSpec
from kindaware._device.runtime import CpuRuntime
from kindaware._tensors.rows import Answer, split
from kindaware._triton.adapter import TritonAdapter
from kindaware._triton.request import TritonRequest


@pytest.fixture
def pb_utils(monkeypatch):
    """The module, as in a stub that has finished its imports."""
    module = pb_fakes.make_module()
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", module)
    return module


def request(*rows, name="X", **options):
    return InferenceRequest([Tensor(name, np.asarray(rows, np.float32))], **options)


class Silent(InferenceRequest):
    """A request that is asked for nothing but its inputs."""

    def request_id(self):
        raise AssertionError("asked for its id")

    def requested_output_names(self):
        raise AssertionError("asked for its outputs")


class Nameless(Tensor):
    """An input that is not asked for its name."""

    def name(self):
        raise AssertionError("asked for its name")


def test_execute_one_input_and_one_output_asks_requests_for_nothing_else(pb_utils):
    arrays = [np.full((n + 1, 4), n, np.float32) for n in range(3)]
    responses = start().execute([Silent([Nameless("X", array)]) for array in arrays])
    for array, response in zip(arrays, responses, strict=True):
        assert np.array_equal(response.output_tensors[0].as_numpy(), 2 * array)


def test_respond_two_outputs_asks_which_are_wanted(pb_utils):
    spec = make_spec(outputs=[TensorSpec(name, "FP32", [2]) for name in "YZ"])
    outputs = {name: torch.ones(2, 2) for name in "YZ"}
    asked = [InferenceRequest([], requested="Z"), InferenceRequest([], requested="Y")]
    responses = TritonAdapter(pb_utils, spec, CpuRuntime()).respond(asked, split(outputs, [1, 1]))
    assert [[one.name() for one in response.output_tensors] for response in responses] == [["Z"], ["Y"]]


def test_respond_answers_of_a_batch_are_slices_of_its_memory(pb_utils):
    outputs = {"Y": torch.arange(12.0).reshape(6, 2)}
    answers = split(outputs, [1, 3, 2])
    responses = TritonAdapter(pb_utils, make_spec(), CpuRuntime()).respond([request([1, 2])] * 3, answers)
    arrays = [response.output_tensors[0].as_numpy() for response in responses]
    assert [len(array) for array in arrays] == [1, 3, 2]
    assert [array.ctypes.data for array in arrays] == [outputs["Y"][row].data_ptr() for row in (0, 1, 4)]


def test_respond_answers_of_several_batches_are_not_mixed_up(pb_utils):
    first, second = ({"Y": torch.full((2, 2), value)} for value in (1.0, 2.0))
    a, b = split(first, [1, 1]), split(second, [1, 1])
    responses = TritonAdapter(pb_utils, make_spec(), CpuRuntime()).respond(
        [request([1, 2])] * 4, [a[0], b[0], a[1], b[1]]
    )
    assert [one.output_tensors[0].as_numpy().max() for one in responses] == [1, 2, 1, 2]


def test_respond_batch_that_cannot_be_handed_over_fails_whole_and_alone(pb_utils):
    good, bad = {"Y": torch.zeros(1, 2)}, {"Y": torch.ones(2, 2, requires_grad=True)}
    responses = TritonAdapter(pb_utils, make_spec(), CpuRuntime()).respond(
        [request([1, 2])] * 3, [*split(good, [1]), *split(bad, [1, 1])]
    )
    assert [one.error is None for one in responses] == [True, False, False]


def test_respond_bf16_of_a_batch_goes_by_dlpack(pb_utils):
    outputs = {"Y": torch.arange(4.0).reshape(2, 2).bfloat16()}
    spec = make_spec(outputs=[TensorSpec("Y", "BF16", [2])])
    responses = TritonAdapter(pb_utils, spec, CpuRuntime()).respond(
        [request([1, 2])] * 2, split(outputs, [1, 1])
    )
    assert [one.output_tensors[0].made_by for one in responses] == ["dlpack", "dlpack"]
    assert torch.equal(responses[1].output_tensors[0]._array, outputs["Y"][1:])


def test_answer_is_a_mapping_of_views():
    outputs = {"Y": torch.arange(6.0).reshape(3, 2), "T": np.array([b"a", b"b", b"c"], dtype=object)}
    answer = Answer(outputs, slice(1, 3))
    assert (list(answer), len(answer), "Z" in answer) == (["Y", "T"], 2, False)
    assert answer["Y"].data_ptr() == outputs["Y"][1].data_ptr()
    assert answer["T"].tolist() == [b"b", b"c"]


def test_read_uniform_model_on_the_host_makes_a_tensor_of_an_input_only_when_asked(pb_utils):
    array = np.ones((3, 2), np.float32)
    [read] = TritonAdapter(pb_utils, make_spec(), CpuRuntime()).read([InferenceRequest([Tensor("X", array)])])
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
