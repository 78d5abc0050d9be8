"""What hooks say in a response beside its outputs, where the server can pass that on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from core_kit import make_plan, make_spec
from stream_kit import CONFIG as STREAM_CONFIG

from kindaware import KindAwareModel, RequestInfo
from kindaware._batch.hook_requests import HookRequests
from kindaware._batch.request import Request
from kindaware.testing import ModelHarness

CONFIG = {
    "name": "m",
    "backend": "python",
    "max_batch_size": 8,
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [1]}],
    "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [1]}],
}
BAD = -1.0


class Telling(KindAwareModel):
    """Says of each request what it was; raises when it has said so of the whole batch."""

    def load(self):
        return None

    def forward(self, X, requests):
        for value, one in zip(X.flatten().tolist(), requests, strict=True):
            if value:
                one.response_parameters["value"] = int(value)
        if len(X) > 1:
            requests[0].response_parameters["first of"] = len(X)
        if (X == BAD).any():
            raise ValueError("bad")
        return X

    def postprocess(self, outputs, requests):
        if requests[0].parameters:
            requests[0].response_parameters.update(requests[0].parameters)
        return outputs


def open_harness(model_class=Telling, config=CONFIG, server_version="current", **options):
    options |= {"config": config, "server_version": server_version}
    return ModelHarness(model_class, raise_errors=False, **options)


def send(model, *values, **more):
    entries = [{"inputs": {"X": np.full((1, 1), value, np.float32)}, **more} for value in values]
    return model.infer_batch(entries)


def test_each_response_has_the_parameters_of_its_request():
    with open_harness() as model:
        results = send(model, 3, 0, 5)
    assert [one.parameters for one in results] == [{"value": 3, "first of": 3}, {}, {"value": 5}]
    assert [one.outputs["Y"].item() for one in results] == [3, 0, 5]


def test_postprocess_may_set_parameters_of_every_type():
    said = {"on": True, "name": "é", "number": 2**40}
    with open_harness() as model:
        [result] = send(model, 1, parameters=said)
    assert result.parameters == said | {"value": 1}


def test_forward_that_failed_says_nothing():
    with open_harness() as model:
        results = send(model, 3, BAD)
    assert results[1].error.code().name == "INTERNAL"
    assert results[0].parameters == {"value": 3}


@pytest.mark.parametrize(("decoupled", "kept"), [(False, {}), (True, {"a": 1})], ids=["forward", "stream"])
def test_batch_that_runs_again_forgets_what_its_forward_has_said_and_a_stream_never_does(decoupled, kept):
    spec = replace(make_spec(), decoupled=decoupled)
    hook_requests = HookRequests(spec, make_plan(lambda X, requests: X, spec=spec).hooks)
    request = Request("r", {}, 1, RequestInfo("r", 1))
    for _ in range(2):
        [info] = hook_requests.argument("forward", [request])["requests"]
        said = dict(info.response_parameters)
        info.response_parameters["a"] = 1
    assert said == kept


class Early(Telling):
    """Says something in preprocess already."""

    def preprocess(self, inputs, requests):
        requests[0].response_parameters["sum"] = int(inputs["X"].sum())
        return inputs


class Late(KindAwareModel):
    """As `Early`, with a forward that asks for nothing."""

    preprocess = Early.preprocess

    def load(self):
        return None

    def forward(self, X):
        return X

    def postprocess(self, outputs, requests):
        if len(requests) > 1:
            requests[0].response_parameters["first of"] = len(requests)
        if (outputs["Y"] == BAD).any():
            raise ValueError("bad")
        return outputs


@pytest.mark.parametrize(
    ("model_class", "told"), [(Early, {"sum": 3, "value": 3}), (Late, {"sum": 3})], ids=["forward", "later"]
)
def test_what_preprocess_said_stays_when_a_batch_is_run_again_in_parts(model_class, told):
    with open_harness(model_class) as model:
        results = send(model, 3, BAD)
        [alone] = send(model, 3)
    assert results[1].error.code().name == "INTERNAL"
    assert results[0].parameters == alone.parameters == told


def test_parameter_of_another_type_fails_its_request_and_no_other():
    class Wrong(Telling):
        def forward(self, X, requests):
            requests[-1].response_parameters["share"] = 0.5
            requests[0].response_parameters["fine"] = True
            return X

    with open_harness(Wrong) as model:
        first, last = send(model, 1, 2)
    assert first.parameters == {"fine": True}
    assert "expected building the response to return, got TritonModelException" in last.error.message()
    assert "bool/int/str" in last.error.message()


@pytest.mark.parametrize(("version", "is_refused"), [("25.01", True), ("24.10", True), ("25.02", False)])
def test_server_whose_responses_have_no_parameters_refuses_those_requests_alone(version, is_refused):
    with open_harness(server_version=version) as model:
        results = send(model, 0, 3)
        plain, told = results if not is_refused else (send(model, 0)[0], results[1])
        errors = dict(model.instance._kindaware_instance._counters.errors)
    assert plain.error is None
    assert errors == ({"UNSUPPORTED": 2} if is_refused else {})
    if is_refused:
        assert told.error.code().name == "UNSUPPORTED"
        assert "expected a server whose responses have parameters, got one before" in told.error.message()
    else:
        assert told.parameters == {"value": 3}


class Counting(KindAwareModel):
    def load(self):
        return None

    def stream(self, N, requests):
        for number in range(int(N[0, 0])):
            requests[0].response_parameters["number"] = number
            yield torch.full_like(N, number)


def test_what_preprocess_said_goes_with_each_item_of_a_stream():
    class Saying(Counting):
        def preprocess(self, inputs, requests):
            requests[0].response_parameters["name"] = "é"
            return inputs

    with open_harness(Saying, STREAM_CONFIG) as model:
        told = [one.parameters for one in model.stream(N=np.full((1, 1), 2, np.int32))]
    assert told == [{"name": "é", "number": 0}, {"name": "é", "number": 1}]


@pytest.mark.parametrize(("version", "last"), [("current", None), ("24.10", "UNSUPPORTED")])
def test_items_of_a_stream_have_the_parameters_of_their_time(version, last):
    with open_harness(Counting, STREAM_CONFIG, version) as model:
        results = list(model.stream(N=np.full((1, 1), 3, np.int32)))
    errors = [one.error.code().name for one in results if one.error]
    assert errors == ([last] if last else [])
    told = [one.parameters for one in results if one.outputs]
    assert told == ([] if last else [{"number": number} for number in range(3)])


SHARED = {"kindaware.items_per_response": "4", "kindaware.warmup": "off"}


def test_items_that_share_a_response_keep_their_parameters():
    with open_harness(Counting, STREAM_CONFIG, parameters=SHARED) as model:
        told = [one.parameters for one in model.stream(N=np.full((1, 1), 3, np.int32)) if one.outputs]
    assert [one["number"] for one in told] == [0, 1, 2]


def test_stream_ends_when_what_its_items_say_can_not_be_sent():
    class Endless(Counting):
        def stream(self, N, requests):
            self.num_items = 0
            while self.num_items < 10_000:
                requests[0].response_parameters["number"] = self.num_items
                self.num_items += 1
                yield N

    with open_harness(Endless, STREAM_CONFIG, "24.10", parameters=SHARED) as model:
        *_, last = model.stream(N=np.full((1, 1), 3, np.int32))
        assert last.error.code().name == "UNSUPPORTED"
        assert model.instance.num_items < 10_000
        assert model.instance._kindaware_instance._counters.errors == {"UNSUPPORTED": 1}


@pytest.mark.parametrize("said", [{"a": "\ud800"}, {"a\udc00": True}])
def test_text_that_has_no_utf8_is_refused_for_its_request_alone(said):
    class Half(Telling):
        def forward(self, X, requests):
            requests[-1].response_parameters.update(said)
            return X

    class Items(Counting):
        def stream(self, N, requests):
            yield N
            requests[0].response_parameters.update(said)
            yield N

    with open_harness(Half) as model:
        first, last = send(model, 1, 2)
    with open_harness(Items, STREAM_CONFIG) as model:
        item, end = model.stream(N=np.full((1, 1), 3, np.int32))
    assert (first.error, item.error) == (None, None)
    for one in (last, end):
        assert one.error.code().name == "INVALID_ARG"
        assert "got text that has no UTF-8, such as half of a surrogate pair; " in one.error.message()
