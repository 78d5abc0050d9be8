"""Parameters on their way: what arrives, and what is refused."""

import pytest
from stand_in_kit import new_request, new_response, open_host

from kindaware.testing.stand_in import TritonContractError, check_returned, send_returned, state_of

TOO_BIG = [2**63, -(2**63) - 1, 2**64 + 5]
VALUE, NAME = "Unsupported value type on parameters", "Unexpected missing key on parameters"


@pytest.fixture
def current():
    return open_host(server_version=(26, 7))


def with_parameters(pb, parameters):
    response = new_response(pb)
    return pb.InferenceResponse(response.output_tensors(), parameters=parameters)


@pytest.mark.parametrize("value", TOO_BIG)
def test_a_returned_response_with_an_int_beyond_64_bits_would_abort_the_server(current, value):
    host, pb, _ = current
    with pytest.raises(TritonContractError, match=f"abort, all models with it: {VALUE}"):
        check_returned(new_request(host), with_parameters(pb, {"a": value}))


def test_a_returned_response_with_nul_in_a_name_would_abort_the_server(current):
    host, pb, _ = current
    with pytest.raises(TritonContractError, match=NAME):
        check_returned(new_request(host), with_parameters(pb, {"a\0b": 1}))


@pytest.mark.parametrize(
    ("parameters", "text"), [*[({"a": one}, VALUE) for one in TOO_BIG], ({"a\0b": 1}, NAME)]
)
def test_a_sent_response_with_such_parameters_is_refused(current, parameters, text):
    host, pb, _ = current
    request = new_request(host)
    sender = request.get_response_sender()
    with pytest.raises(pb.TritonModelException, match=text):
        sender.send(with_parameters(pb, parameters), 1)
    assert state_of(request).sent == []
    sender.send(with_parameters(pb, {"a": 2**63 - 1, "b": -(2**63), "c": True}), 1)
    assert state_of(request).sent[0].parameters == {"a": 2**63 - 1, "b": -(2**63), "c": True}


@pytest.mark.parametrize("how", ["returned", "sent"])
def test_text_of_a_response_ends_at_nul(current, how):
    host, pb, _ = current
    request, response = new_request(host), with_parameters(pb, {"a": "x\0y"})
    if how == "sent":
        request.get_response_sender().send(response, 1)
    else:
        check_returned(request, response)
        send_returned(request, response)
    assert state_of(request).sent[0].parameters == {"a": "x"}
    assert response.parameters() == '{"a": "x\\u0000y"}'


@pytest.mark.parametrize("version", [(24, 10), (26, 7)])
@pytest.mark.parametrize(
    ("parameters", "text"), [*[({"a": one}, VALUE) for one in TOO_BIG], ({"a\0b": 1}, NAME)]
)
def test_a_call_with_such_parameters_is_refused(version, parameters, text):
    host, pb, _ = open_host(server_version=version)
    fields = {"inputs": [], "requested_output_names": [], "model_name": "other"}
    response = pb.InferenceRequest(**fields, parameters=parameters).exec()
    assert response.error().message() == f"Model other - Error when running inference: {text}"
    assert host.calls == []
    streamed = list(pb.InferenceRequest(**fields, parameters=parameters).exec(decoupled=True))
    assert [one.has_error() for one in streamed] == [True]


def test_text_of_a_call_ends_at_nul():
    host, pb, _ = open_host()
    fields = {"inputs": [], "requested_output_names": [], "model_name": "other"}
    pb.InferenceRequest(**fields, parameters={"a": "x\0y", "b": 2**63 - 1}).exec()
    assert host.calls[0].parameters == {"a": "x", "b": 2**63 - 1}


@pytest.mark.parametrize("parameters", [{"a": "\ud800"}, {"\udc00": 1}])
def test_half_of_a_surrogate_pair_is_refused(current, parameters):
    host, pb, _ = current
    request = new_request(host)
    with pytest.raises(pb.TritonModelException, match=r"The surrogate pair in string is invalid\. at \d+$"):
        request.get_response_sender().send(with_parameters(pb, parameters), 1)
    assert state_of(request).sent == []
