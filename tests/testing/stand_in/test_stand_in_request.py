"""Requests: those that the model builds, and those that the server hands to execute."""

import contextlib
import json

import numpy as np
import pytest
from stand_in_kit import new_request

from kindaware.testing.stand_in import TritonContractError, state_of


@pytest.fixture
def build(pb):
    """Build a request of the model's own; keywords replace the defaults."""

    def build(**settings):
        tensor = pb.Tensor("X", np.ones(2, np.float32))
        return pb.InferenceRequest(
            **{"inputs": [tensor], "requested_output_names": ["Y"], "model_name": "m", **settings}
        )

    return build


def test_request_defaults_are_the_servers(build):
    request = build()

    assert (request.request_id(), request.correlation_id()) == ("", 0)
    assert (request.flags(), request.timeout(), request.parameters()) == (0, 0, "{}")
    assert request.requested_output_names() == {"Y"}
    assert request.trace().get_context() is None


def test_request_arguments_have_the_servers_order(pb):
    tensor = pb.Tensor("X", np.ones(2))
    memory = pb.PreferredMemory(pb.TRITONSERVER_MEMORY_CPU)
    traced = pb.InferenceRequest(inputs=[], requested_output_names=[], model_name="m").trace()
    request = pb.InferenceRequest("id", 5, [tensor], ["Y"], "m", 2, 3, 4, memory, traced, {"a": 1})

    assert (request.request_id(), request.correlation_id(), request.flags(), request.timeout()) == (
        "id",
        5,
        3,
        4,
    )
    assert request.parameters() == '{"a": 1}'
    assert request.inputs()[0] is tensor
    state = state_of(request)
    assert (state.model_name, state.model_version) == ("m", 2)


@pytest.mark.parametrize(
    ("given", "found"), [(7, 7), (True, 1), ("seven", "seven"), (2**64 - 1, 2**64 - 1), (np.str_("s"), "s")]
)
def test_request_correlation_id_is_int_or_str(build, given, found):
    correlation_id = build(correlation_id=given).correlation_id()
    assert (correlation_id, type(correlation_id)) == (found, type(found))


@pytest.mark.parametrize("value", [1.5, b"b", np.int64(3), [1]])
def test_request_correlation_id_of_other_types_fails(pb, build, value):
    with pytest.raises(pb.TritonModelException, match=r"^Correlation ID must be integer or string$"):
        build(correlation_id=value)


@pytest.mark.parametrize("value", [-1, 2**64])
def test_request_correlation_id_out_of_range_fails(build, value):
    with pytest.raises(RuntimeError, match=r"^Unable to cast Python instance"):
        build(correlation_id=value)


@pytest.mark.parametrize(
    "settings",
    [
        {"request_id": None},
        {"correlation_id": None},
        {"inputs": None},
        {"inputs": [1]},
        {"inputs": "x"},
        {"inputs": iter([])},
        {"requested_output_names": "Y"},
        {"requested_output_names": {"Y"}},
        {"requested_output_names": {"Y": 1}},
        {"requested_output_names": [None]},
        {"requested_output_names": bytearray(b"Y")},
        {"model_name": None},
        {"model_name": 3},
        {"model_version": None},
        {"model_version": 1.5},
        {"model_version": "1"},
        {"model_version": 2**63},
        {"flags": -1},
        {"flags": 2**32},
        {"timeout": -1},
        {"timeout": 2**64},
        {"preferred_memory": None},
        {"trace": None},
        {"unknown": 1},
    ],
    ids=lambda settings: str(settings).partition(" object at ")[0],
)
def test_request_of_other_types_fails(build, settings):
    with pytest.raises(TypeError, match=r"^__init__\(\): incompatible constructor arguments"):
        build(**settings)


def test_request_with_empty_elements_fails_with_id_and_model(pb, build):
    with pytest.raises(
        pb.TritonModelException,
        match=r"^Input tensor for request with id 'i' and model name 'm' should not be empty\.$",
    ):
        build(inputs=[None], requested_output_names=[""], request_id="i")
    with pytest.raises(
        pb.TritonModelException,
        match=r"^Requested output name for request with id '' and model name 'm' should not be empty\.$",
    ):
        build(requested_output_names=[""])


def test_request_checks_parameters_then_correlation_id_then_inputs(pb, build):
    with pytest.raises(pb.TritonModelException, match="Expect N8pybind114dictE, got <class"):
        build(inputs=[None], correlation_id=-1, parameters=[1])
    with pytest.raises(RuntimeError, match="Unable to cast"):
        build(inputs=[None], correlation_id=-1)


@pytest.mark.parametrize(
    "names", [["Y", "Y", "Z"], ("Y", "Z"), np.array(["Y", "Z"], object), [b"Y", "Z"]], ids=repr
)
def test_request_names_are_a_set_of_any_sequence(build, names):
    request = build(requested_output_names=names)
    assert request.requested_output_names() == {"Y", "Z"}
    request.requested_output_names().clear()
    assert request.requested_output_names() == {"Y", "Z"}


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ([1], r"^Expect N8pybind114dictE, got <class 'list'>$"),
        ({1: 2}, "^Expect parameters keys to have type str, found type <class 'int'>$"),
        ({"a": 1.5}, "^Expect parameters values to have type bool/int/str, found type <class 'float'>$"),
        ({"a": None}, "found type <class 'NoneType'>$"),
        ({"a": np.int64(1)}, "found type <class 'numpy.int64'>$"),
    ],
)
def test_request_parameters_of_other_types_fail(pb, build, parameters, text):
    with pytest.raises(pb.TritonModelException, match=text):
        build(parameters=parameters)


def test_request_parameters_are_json_of_the_dict_at_that_time(build):
    parameters = {"a": True, "b": 2, "c": "é"}
    request = build(parameters=parameters)
    parameters["d"] = 1
    assert request.parameters() == '{"a": true, "b": 2, "c": "\\u00e9"}'


def test_server_request_gives_what_the_client_sent(host):
    request = new_request(
        host,
        "Y",
        "Z",
        request_id="i",
        correlation_id="c",
        flags=3,
        timeout=9,
        parameters={"a": 1, "é": "x"},
        trace="{}",
    )

    assert (request.request_id(), request.correlation_id(), request.flags()) == ("i", "c", 3)
    assert request.timeout() == 9
    assert request.requested_output_names() == {"Y", "Z"}
    assert request.parameters() == '{"a":1,"é":"x"}'
    assert json.loads(request.parameters()) == {"a": 1, "é": "x"}
    assert request.trace().get_context() == "{}"
    assert request.trace() is not request.trace()


def test_inputs_are_the_same_objects_in_a_new_list(host, pb):
    request = new_request(host)

    assert request.inputs()[0] is request.inputs()[0]
    request.inputs().clear()
    assert len(request.inputs()) == 1
    assert isinstance(request, pb.InferenceRequest)
    assert isinstance(request.inputs()[0], pb.Tensor)
    assert not any(hasattr(request, name) for name in ("model_name", "priority", "preferred_memory"))


def test_set_flags_changes_flags(host):
    request = new_request(host)
    request.set_flags(5)
    assert request.flags() == 5
    with pytest.raises(TypeError, match=r"^set_flags\(\): incompatible function arguments"):
        request.set_flags(flags=1)


def test_set_release_flags_is_positional_and_kept(host):
    request = new_request(host)
    assert state_of(request).release_flags == 1
    request.set_release_flags(77)
    assert state_of(request).release_flags == 77
    with pytest.raises(TypeError, match=r"^set_release_flags\(\): incompatible function arguments"):
        request.set_release_flags(flags=1)


def test_set_release_flags_of_a_request_of_the_models_own_is_a_contract_error(host, build):
    with pytest.raises(TritonContractError, match=r"the server would crash: set_release_flags\(\)"):
        build().set_release_flags(1)
    assert len(host.violations) == 1


def test_is_cancelled_asks_until_it_is_true(host):
    request = new_request(host)
    sender = request.get_response_sender()

    assert not request.is_cancelled()
    assert not sender.is_cancelled()
    host.cancelled = True
    assert request.is_cancelled()
    assert host.num_questions == 3
    host.cancelled = False
    assert sender.is_cancelled()
    assert host.num_questions == 3


def test_is_cancelled_of_a_request_of_the_models_own_is_a_contract_error(host, build):
    request = build()
    for ask in (request.is_cancelled, request.get_response_sender().is_cancelled):
        with pytest.raises(
            TritonContractError, match=r"the server would abort: .*Cannot determine request cancellation"
        ):
            ask()
    assert len(host.violations) == 2


def test_contract_error_stays_recorded_when_the_model_catches_it(host, build):
    with contextlib.suppress(Exception):
        build().is_cancelled()
    assert [type(error) for error in host.violations] == [TritonContractError]
    assert str(host.violations[0]).startswith("model 'probe': the server would ")
