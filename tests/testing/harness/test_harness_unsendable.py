"""What no client can send is refused by the harness, before a model sees it."""

import numpy as np
import pytest

from kindaware.testing import HarnessError, ModelHarness

CONFIG = {
    "name": "m",
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [-1]}],
    "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [-1]}],
}
FORM = "{}: expected .*, got .*; .*, since no client can send this"


class Silent:
    def execute(self, requests):
        import triton_python_backend_utils as pb_utils

        self.requests = [(one.request_id(), one.correlation_id(), one.timeout()) for one in requests]
        return [pb_utils.InferenceResponse([]) for _ in requests]


@pytest.fixture(scope="module")
def harness():
    with ModelHarness(Silent, config=CONFIG) as harness:
        yield harness


@pytest.mark.parametrize(
    ("subject", "options"),
    [
        ("request_id", {"request_id": 7}),
        ("request_id", {"request_id": None}),
        ("correlation_id", {"correlation_id": 1.5}),
        ("correlation_id", {"correlation_id": -1}),
        ("correlation_id", {"correlation_id": 2**64}),
        ("correlation_id", {"correlation_id": None}),
        ("flags", {"flags": -1}),
        ("flags", {"flags": 4}),
        ("flags", {"flags": "1"}),
        ("timeout", {"timeout": 1.5}),
        ("timeout", {"timeout": -1}),
        ("timeout", {"timeout": 2**63}),
        ("timeout", {"timeout": True}),
        ("parameters", {"parameters": [("a", 1)]}),
        ("parameters", {"parameters": {1: 2}}),
        ("parameter 'x'", {"parameters": {"x": [1]}}),
        ("parameter 'x'", {"parameters": {"x": None}}),
        ("parameter 'x'", {"parameters": {"x": 2**63}}),
        ("parameter 'timeout'", {"parameters": {"timeout": 1}}),
        ("parameter 'priority'", {"parameters": {"priority": 1}}),
        ("parameter 'sequence_id'", {"parameters": {"sequence_id": 1}}),
        ("parameter 'triton_x'", {"parameters": {"triton_x": 1}}),
        ("requested_outputs", {"requested_outputs": [1]}),
        ("requested_outputs", {"requested_outputs": 1}),
        ("trace", {"trace": 1}),
    ],
)
def test_metadata_that_no_client_can_send_raises(harness, subject, options):
    entry = {"inputs": {"X": [1.0]}, **options}
    for send in (lambda: harness.infer(X=[1.0], **options), lambda: harness.infer_batch([entry])):
        with pytest.raises(HarnessError, match="^" + FORM.format(subject)):
            send()


@pytest.mark.parametrize(
    "options",
    [
        {"correlation_id": 2**64 - 1},
        {"correlation_id": "a"},
        {"timeout": 2**63 - 1},
        {"request_id": "", "correlation_id": 0},
    ],
)
def test_metadata_at_the_limits_reaches_the_model(harness, options):
    harness.infer(X=[1.0], **options)
    sent = {"request_id": "", "correlation_id": 0, "timeout": 0, **options}
    assert harness.instance.requests == [tuple(sent.values())]


def test_metadata_of_numpy_are_whole_numbers(harness):
    harness.infer(X=[1.0], timeout=np.int64(7), correlation_id=np.uint32(8))
    assert harness.instance.requests == [("", 8, 7)]


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("request_ID", "request_id"), ("time_out", "timeout"), ("parameter", "parameters")],
)
def test_keyword_that_looks_like_an_argument_raises_with_a_hint(harness, misspelt, meant):
    for send in (harness.infer, harness.stream):
        with pytest.raises(HarnessError, match=f"infer: expected .*, got '{misspelt}'; did you mean {meant}"):
            send(X=[1.0], **{misspelt: 1})
