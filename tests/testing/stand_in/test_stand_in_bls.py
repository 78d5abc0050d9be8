"""Calls of other models, against a host that answers as a test says."""

import asyncio

import numpy as np
import pytest
import torch
from stand_in_kit import open_host

from kindaware.testing.stand_in import Answer, Failure, RefusalError, TritonContractError, WireTensor

Y = WireTensor.of("Y", np.array([2.0], np.float32))
OLD, NEW = (24, 10), (25, 4)


def ask(pb, name="other", **settings):
    tensor = pb.Tensor("X", np.ones(2, np.float32))
    return pb.InferenceRequest(
        **{"inputs": [tensor], "requested_output_names": ["Y"], "model_name": name, **settings}
    )


def show(response):
    """Give the first elements of the outputs, or message and code of the error."""
    if response.has_error():
        return response.error().message(), response.error().code().name
    return [tensor.as_numpy()[0] for tensor in response.output_tensors()]


@pytest.mark.parametrize("phase", ["import", "auto_complete", "construct", "initialize", "finalize", "done"])
def test_exec_outside_of_execute_fails(pb, host, phase):
    host.phase = phase
    request = ask(pb)
    with pytest.raises(
        pb.TritonModelException, match=r"^BLS is only supported during the 'execute' function\.$"
    ):
        request.exec()

    async def run():
        return await request.async_exec()

    with pytest.raises(
        pb.TritonModelException, match=r"^BLS is only supported during the 'execute' function\.$"
    ):
        asyncio.run(run())
    assert not host.calls


def test_exec_hands_the_whole_call_over(pb, host):
    request = ask(
        pb, "m", model_version=3, request_id="i", correlation_id="c", flags=1, timeout=5, parameters={"a": 1}
    )
    request.exec()

    (call,) = host.calls
    assert (call.model_name, call.model_version, call.requested_output_names) == ("m", 3, ("Y",))
    assert (call.request_id, call.correlation_id, call.flags, call.timeout) == ("i", "c", 1, 5)
    assert (call.parameters, call.is_decoupled, call.trace) == ({"a": 1}, False, None)
    assert [(tensor.name, tensor.datatype, tensor.value().tolist()) for tensor in call.inputs] == [
        ("X", "FP32", [1, 1])
    ]


def test_exec_gives_a_response_with_private_arrays(pb, host):
    host.answers = [Answer((Y,), is_final=True)]
    response = ask(pb).exec()

    assert isinstance(response, pb.InferenceResponse)
    (tensor,) = response.output_tensors()
    array = tensor.as_numpy()
    array[0] = 9
    assert tensor.as_numpy() is array
    assert torch.from_dlpack(tensor).tolist() == [2]


def test_exec_freezes_inputs_the_first_time(pb, host):
    array = np.ones(2, np.float32)
    request = ask(pb, inputs=[pb.Tensor("X", array)])
    request.exec()
    array[0] = 50
    request.exec()
    assert [call.inputs[0].value().tolist() for call in host.calls] == [[1, 1], [1, 1]]


def test_exec_without_any_answer_gives_an_empty_response(pb, host):
    host.answers = []
    assert show(ask(pb).exec()) == []


def test_exec_that_is_refused_gives_an_error_response(pb, host):
    host.refusal = "unexpected inference output 'Z' for model 'other'"
    response = ask(pb).exec()
    assert show(response) == ("Model other - Error when running inference: " + host.refusal, "INTERNAL")
    assert response.output_tensors() == []


@pytest.mark.parametrize(("version", "code"), [(OLD, "INTERNAL"), (NEW, "NOT_FOUND")])
def test_exec_of_failing_model_keeps_the_code_from_25_04(version, code):
    host, pb, _ = open_host(server_version=version)
    host.answers = [Answer(failure=Failure("boom", "NOT_FOUND"), is_final=True)]
    assert show(ask(pb).exec()) == ("boom", code)


@pytest.mark.parametrize("value", [None, "yes", []])
def test_exec_with_other_decoupled_argument_fails(pb, value):
    with pytest.raises(TypeError, match=r"^exec\(\): incompatible function arguments"):
        ask(pb).exec(decoupled=value)


def test_exec_takes_ints_as_decoupled(pb, c_module):
    assert isinstance(ask(pb).exec(1), c_module.ResponseIterator)


def test_async_exec_without_a_loop_fails(pb):
    with pytest.raises(RuntimeError, match=r"^no running event loop$"):
        ask(pb).async_exec()


def test_async_exec_gives_a_future_that_gather_takes(pb, host):
    host.answers = [Answer((Y,), is_final=True)]

    async def run():
        future = ask(pb).async_exec()
        assert isinstance(future, asyncio.Future)
        return await asyncio.gather(future, ask(pb).async_exec(), ask(pb).async_exec(decoupled=True))

    one, two, iterator = asyncio.run(run())
    assert [show(one), show(two), [show(response) for response in iterator]] == [[2], [2], [[2]]]


def stream(host, pb, *answers):
    host.answers = list(answers)
    return ask(pb).exec(decoupled=True)


FLAG = Answer(is_final=True, is_flag_only=True)


def test_iterator_gives_responses_and_the_flag_as_an_empty_one(host, pb):
    iterator = stream(host, pb, Answer((Y,)), Answer((Y,)), FLAG)
    assert [len(response.output_tensors()) for response in iterator] == [1, 1, 0]
    assert host.calls[0].is_decoupled


def test_iterator_is_its_own_and_replays_after_the_end(host, pb):
    iterator = stream(host, pb, Answer((Y,)), FLAG)
    assert iter(iterator) is iterator
    first = list(iterator)
    for _ in range(2):
        with pytest.raises(StopIteration, match=r"^Iteration is done for the responses\.$"):
            next(iterator)
    again = list(iterator)
    assert [one is other for one, other in zip(first, again, strict=True)] == [True, True]
    with pytest.raises(TypeError, match="has no len"):
        len(iterator)


def test_iterator_left_early_resumes(host, pb):
    iterator = stream(host, pb, Answer((Y,)), Answer(), FLAG)
    for response in iterator:
        assert show(response) == [2]
        break
    assert [show(response) for response in iterator] == [[], []]


def test_iterator_is_lazy(host, pb):
    pulled = []

    def answers():
        for number in range(3):
            pulled.append(number)
            yield Answer(is_final=number == 2)

    host.answers = answers()
    iterator = ask(pb).exec(decoupled=True)
    next(iterator)
    assert pulled == [0]


def test_iterator_of_a_response_gives_it(pb, c_module):
    response = pb.InferenceResponse([])
    iterator = c_module.ResponseIterator(response)
    assert [one is response for one in iterator] == [True]
    with pytest.raises(TypeError, match=r"^__init__\(\): incompatible constructor arguments"):
        c_module.ResponseIterator()


ERROR = Answer(failure=Failure("boom", "NOT_FOUND"))
FINAL_ERROR = Answer(failure=Failure("boom", "NOT_FOUND"), is_final=True)


def test_iterator_before_25_04_loses_errors_within_a_stream(host, pb):
    iterator = stream(host, pb, Answer((Y,)), ERROR, Answer((Y,)), FLAG)
    assert [show(response) for response in iterator] == [[2], [2], []]
    assert not host.violations


def test_iterator_before_25_04_ends_with_a_first_and_final_error(host, pb):
    assert [show(response) for response in stream(host, pb, FINAL_ERROR)] == [("boom", "INTERNAL")]


@pytest.mark.parametrize("answers", [(Answer((Y,)), FINAL_ERROR), (ERROR, FLAG), (ERROR, Answer((Y,)), FLAG)])
def test_iterator_before_25_04_waits_after_other_errors(host, pb, answers):
    iterator = stream(host, pb, *answers)
    next(iterator)
    with pytest.raises(TritonContractError, match=r"would wait for ever: before 25\.04 an error"):
        next(iterator)
    assert len(host.violations) == 1


def test_iterator_from_25_04_gives_errors_where_they_are():
    host, pb, _ = open_host(server_version=NEW)
    iterator = stream(host, pb, Answer((Y,)), ERROR, FINAL_ERROR)
    boom = ("boom", "NOT_FOUND")
    assert [show(response) for response in iterator] == [[2], boom, boom]


def test_iterator_cancel_exists_from_25_04(host, pb):
    assert not hasattr(stream(host, pb, FLAG), "cancel")
    host, pb, _ = open_host(server_version=NEW)
    iterator = stream(host, pb, Answer((Y,)), FLAG)
    iterator.cancel()
    assert host.cancelled_calls == host.calls
    list(iterator)
    iterator.cancel()
    assert len(host.cancelled_calls) == 1


def test_bls_response_parameters_from_25_02():
    host, pb, _ = open_host(server_version=(25, 2))
    host.answers = [Answer((Y,), parameters={"a": 1}), FINAL_ERROR, FLAG]
    host.server_version = NEW
    iterator = ask(pb).exec(decoupled=True)
    assert [response.parameters() for response in iterator] == ['{"a": 1}', "", ""]


def test_exec_on_a_host_without_models_says_so(pb, host):
    host.run_bls = lambda call: type(host).__mro__[1].run_bls(host, call)
    assert show(ask(pb, "nope").exec()) == (
        "Model nope - Error when running inference: Failed for execute the inference request. "
        "Model 'nope' is not ready.",
        "INTERNAL",
    )


def test_exec_that_is_refused_late_ends_the_stream_with_an_error(pb, host):
    def answers():
        raise RefusalError("too late")
        yield

    host.answers = answers()
    iterator = ask(pb).exec(decoupled=True)
    assert [show(response) for response in iterator] == [
        ("Model other - Error when running inference: too late", "INTERNAL")
    ]
