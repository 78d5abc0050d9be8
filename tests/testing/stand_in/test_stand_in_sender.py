"""The response sender, and what the server does with responses that execute returns."""

import threading

import numpy as np
import pytest
from stand_in_kit import new_request, new_response, open_host, sent_names

from kindaware.testing.stand_in import (
    Failure,
    TritonContractError,
    answer_of,
    check_returned,
    fail_request,
    send_returned,
    state_of,
)

FINAL = 1
MORE_THAN_ONE = r"^Unable to send response\. Non-decoupled model cannot send more than one response\.$"
FINAL_FIRST = (
    r"^Unable to send response\. Non-decoupled model cannot send complete final before sending a response\.$"
)
CLOSED = r"^Unable to send response\. Response sender has been closed\.$"
NO_FLAG = r"^Unable to send response\. Unsupported flag provided\.$"
NOTHING = r"^Inference Response object must be provided when the response flags is set to zero\.$"
NO_STATE = (
    r"^Unable to send response\. Response sender has no reference to the decoupled state of the model\.$"
)


@pytest.fixture
def decoupled():
    return open_host(is_decoupled=True)


def test_sender_is_one_object_without_close(host):
    request = new_request(host)
    sender = request.get_response_sender()
    assert sender is request.get_response_sender()
    assert not hasattr(sender, "close")


@pytest.mark.parametrize("args", [("x",), (None, None), (None, -1), (None, "1"), (None, 1.0)])
def test_send_of_other_types_fails(host, args):
    with pytest.raises(TypeError, match=r"^send\(\): incompatible function arguments"):
        new_request(host).get_response_sender().send(*args)


@pytest.mark.parametrize("flags", [2, 3, 77])
def test_send_with_other_flags_fails_first(pb, host, flags):
    sender = new_request(host).get_response_sender()
    with pytest.raises(pb.TritonModelException, match=NO_FLAG):
        sender.send(flags=flags)


def test_send_of_nothing_fails(pb, host):
    with pytest.raises(pb.TritonModelException, match=NOTHING):
        new_request(host).get_response_sender().send()


def test_send_for_a_request_of_the_models_own_fails(pb):
    sender = pb.InferenceRequest(inputs=[], requested_output_names=[], model_name="m").get_response_sender()
    for args in [(new_response(pb), 0), (None, FINAL), (None, True)]:
        with pytest.raises(pb.TritonModelException, match=NO_STATE):
            sender.send(*args)


def test_send_non_decoupled_takes_one_response_and_final(pb, host):
    request = new_request(host)
    sender = request.get_response_sender()

    with pytest.raises(pb.TritonModelException, match=FINAL_FIRST):
        sender.send(flags=FINAL)
    sender.send(new_response(pb))
    with pytest.raises(pb.TritonModelException, match=MORE_THAN_ONE):
        sender.send(new_response(pb), FINAL)
    sender.send(flags=FINAL)
    with pytest.raises(pb.TritonModelException, match=CLOSED):
        sender.send(flags=FINAL)
    assert [(answer.is_flag_only, answer.is_final) for answer in state_of(request).sent] == [
        (False, False),
        (True, True),
    ]
    assert host.sent == state_of(request).sent


def test_send_non_decoupled_with_final_closes(pb, host):
    request = new_request(host)
    request.get_response_sender().send(response=new_response(pb), flags=True)
    assert state_of(request).is_closed
    assert state_of(request).is_final_sent
    with pytest.raises(pb.TritonModelException, match=CLOSED):
        request.get_response_sender().send(flags=FINAL)


def test_send_decoupled_takes_any_number_until_final(decoupled):
    host, pb, _ = decoupled
    request = new_request(host)
    sender = request.get_response_sender()
    for number in range(3):
        sender.send(new_response(pb, value=number))
    sender.send(flags=FINAL)

    assert [output.value().tolist() for answer in host.sent for output in answer.outputs] == [[0], [1], [2]]
    assert [answer.is_final for answer in host.sent] == [False, False, False, True]
    for args in [(None, FINAL), (new_response(pb), 0)]:
        with pytest.raises(pb.TritonModelException, match=CLOSED):
            sender.send(*args)


def test_send_decoupled_takes_the_same_response_again(decoupled):
    host, pb, _ = decoupled
    sender = new_request(host).get_response_sender()
    response = new_response(pb)
    sender.send(response)
    sender.send(response, FINAL)
    assert len(host.sent) == 2


def test_send_keeps_the_request_alive_until_final(decoupled):
    host, pb, _ = decoupled
    sender = new_request(host).get_response_sender()
    sender.send(new_response(pb), FINAL)
    assert len(host.sent) == 1


def test_send_removes_outputs_that_were_not_requested(pb, host):
    request = new_request(host, "Y", "W")
    response = new_response(pb, "Z", "Y", "Q")
    request.get_response_sender().send(response, FINAL)

    assert sent_names(request) == [["Y"]]
    assert [tensor.name() for tensor in response.output_tensors()] == ["Y"]


def test_send_of_error_drops_tensors(pb, host):
    request = new_request(host)
    error = pb.TritonError("no", pb.TritonError.NOT_FOUND)
    response = pb.InferenceResponse([pb.Tensor("Y", np.zeros(1)), pb.Tensor("Q", np.zeros(1))], error)
    request.get_response_sender().send(response, FINAL)

    (answer,) = host.sent
    assert (answer.failure, answer.outputs) == (Failure("no", "NOT_FOUND"), ())
    assert [tensor.name() for tensor in response.output_tensors()] == ["Y"]


def test_send_from_threads_keeps_every_response(decoupled):
    host, pb, _ = decoupled
    sender = new_request(host).get_response_sender()
    threads = [threading.Thread(target=lambda: sender.send(new_response(pb))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(host.sent) == 16


def test_send_of_final_from_another_thread_waits_for_the_send_before(decoupled):
    host, pb, _ = decoupled
    sender = new_request(host).get_response_sender()
    started, finals = threading.Event(), []

    def on_send(request, answer):
        if not answer.is_final:
            started.set()
            finals.append(final.join(0.2) or final.is_alive())
        host.sent.append(answer)

    host.on_send = on_send
    final = threading.Thread(target=lambda: started.wait(5) and sender.send(flags=FINAL))
    final.start()
    sender.send(new_response(pb))
    final.join(5)
    assert finals == [True]
    assert [answer.is_final for answer in host.sent] == [False, True]


@pytest.mark.parametrize("close", ["send", "return", "error"])
def test_is_cancelled_after_the_answer_is_a_contract_error(pb, host, close):
    request = new_request(host)
    if close == "send":
        request.get_response_sender().send(new_response(pb), FINAL)
    elif close == "return":
        send_returned(request, new_response(pb))
    else:
        fail_request(request)

    for ask in (request.is_cancelled, request.get_response_sender().is_cancelled):
        with pytest.raises(TritonContractError, match=r"the server would crash: .* memory that is gone"):
            ask()
    assert len(host.violations) == 2


def test_check_returned_after_a_send_fails_with_the_senders_text(pb, host):
    request = new_request(host)
    check_returned(request, new_response(pb))
    request.get_response_sender().send(new_response(pb))
    with pytest.raises(pb.TritonModelException, match=MORE_THAN_ONE):
        check_returned(request, new_response(pb))


def test_check_returned_of_one_object_for_two_requests_is_a_contract_error(pb, host):
    first, second = new_request(host), new_request(host)
    response = new_response(pb)
    check_returned(first, response)
    with pytest.raises(
        TritonContractError, match="the server would corrupt its memory: one InferenceResponse"
    ):
        check_returned(second, response)
    assert len(host.violations) == 1


def test_send_returned_is_a_final_send(pb, host):
    request = new_request(host)
    answer = send_returned(request, new_response(pb, "Y", "Q"))

    assert [output.name for output in answer.outputs] == ["Y"]
    assert answer.is_final
    assert host.sent == [answer] == state_of(request).sent
    with pytest.raises(pb.TritonModelException, match=CLOSED):
        check_returned_decoupled(request, pb)


def check_returned_decoupled(request, pb):
    request._host.is_decoupled = True
    check_returned(request, new_response(pb))


def test_fail_request_closes_the_sender_and_resets_release_flags(pb, host):
    request = new_request(host)
    request.set_release_flags(2)
    fail_request(request)

    assert state_of(request).release_flags == 1
    with pytest.raises(pb.TritonModelException, match=FINAL_FIRST):
        request.get_response_sender().send(flags=FINAL)
    with pytest.raises(pb.TritonModelException, match=CLOSED):
        request.get_response_sender().send(new_response(pb), FINAL)


def test_fail_request_after_final_is_a_contract_error(pb, host):
    request = new_request(host)
    request.get_response_sender().send(new_response(pb), FINAL)
    with pytest.raises(TritonContractError, match="free the request's response factory twice"):
        fail_request(request)
    assert len(host.violations) == 1


def test_fail_request_after_final_of_a_decoupled_model_is_fine(decoupled):
    host, _, _ = decoupled
    request = new_request(host)
    request.get_response_sender().send(flags=FINAL)
    fail_request(request)
    assert not host.violations


def test_answer_of_without_names_keeps_all_and_their_order(pb):
    answer = answer_of(new_response(pb, "Z", "Y", "Y"), None)
    assert [output.name for output in answer.outputs] == ["Z", "Y", "Y"]


def test_answer_of_carries_parameters_but_not_those_of_errors():
    _, pb, _ = open_host(server_version=(25, 2))
    assert answer_of(pb.InferenceResponse([], parameters={"a": 1}), None).parameters == {"a": 1}
    assert answer_of(pb.InferenceResponse([], pb.TritonError("x"), {"a": 1}), None).parameters == {}
