"""What requests say about themselves, for the hooks that ask for it and for no other."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from core_kit import (
    REPORTER,
    Doubler,
    make_device,
    make_pipeline,
    make_plan,
    make_request,
    make_spec,
    run,
    start,
)

from kindaware import ConfigError, KindAwareModel, RequestError, RequestInfo, TensorSpec
from kindaware._batch.counters import Counters
from kindaware._batch.hook_requests import HookRequests
from kindaware._batch.request import Request
from kindaware._config.sequence_spec import SequenceSpec
from kindaware._device.runtime import CpuRuntime
from kindaware._execute.stream_arrivals import StreamArrivals
from kindaware._triton import request_reader as reader
from kindaware._triton.request import TritonRequest, read_info, read_sequence
from kindaware.testing import ModelHarness

CONFIG = {
    "name": "m",
    "backend": "python",
    "max_batch_size": 8,
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [4]}],
    "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [4]}],
}
X = torch.ones(1, 4).numpy()


class OddId:
    """A request of Triton's whose id is not UTF-8."""

    def request_id(self):
        return b"odd \xff".decode()

    correlation_id = request_id

    def timeout(self):
        return 0

    def trace(self):
        return None


class Asking(KindAwareModel):
    """Keeps what its hooks got."""

    def load(self):
        self.seen = []

    def preprocess(self, inputs, requests):
        self.seen.append(("preprocess", requests))
        return inputs

    def forward(self, X, *, requests):
        self.seen.append(("forward", requests))
        return X

    def postprocess(self, outputs, requests):
        self.seen.append(("postprocess", requests))
        return outputs


def test_hooks_that_name_requests_get_what_each_request_says():
    with ModelHarness(Asking, config=CONFIG) as model:
        del model.instance.seen[:]
        model.infer_batch(
            [
                {
                    "inputs": {"X": X.repeat(2, 0)},
                    "request_id": "a",
                    "timeout": 5_000_000,
                    "parameters": {"scale": 2.5, "n": 3, "on": True, "é": "é"},
                },
                {"inputs": {"X": X}, "correlation_id": 7, "flags": 3, "requested_outputs": ["Y"]},
            ]
        )
        seen = model.instance.seen

    first, second = seen[2][1]
    assert [(hook, len(requests)) for hook, requests in seen] == [
        ("preprocess", 1),
        ("preprocess", 1),
        ("forward", 2),
        ("postprocess", 2),
    ]
    assert seen[0][1] == [first]
    assert seen[1][1] == [second]
    assert seen[3][1] == seen[2][1]
    assert (first.id, first.rows, first.timeout) == ("a", 2, 5_000_000)
    assert first.parameters == {"scale": 2.5, "n": 3, "on": True, "é": "é"}
    assert (first.correlation_id, first.is_start, first.is_end) == (0, False, False)
    assert (second.correlation_id, second.flags, second.is_start, second.is_end) == (7, 3, True, True)
    assert second.requested_outputs == {"Y"}
    assert second.parameters == {}


def test_request_info_reads_the_bits_of_flags_one_by_one():
    assert RequestInfo("a", 1, flags=1).is_start
    assert not RequestInfo("a", 1, flags=1).is_end
    assert RequestInfo("a", 1, flags=2).is_end
    assert not RequestInfo("a", 1, flags=2).is_start


def test_warm_up_has_requests_that_say_only_what_they_are():
    model = start(Asking)
    assert [requests for _, requests in model.seen] == [[RequestInfo("warm-up", 1)]] * 3


def test_warm_up_of_sequences_has_a_request_for_each_row():
    spec = replace(make_spec(), sequences=SequenceSpec(frozenset(), 1.0, is_iterative=False))
    hook_requests = HookRequests(spec, make_plan(lambda X, requests: X, spec=spec).hooks)

    def infos(rows):
        infos = hook_requests.argument("forward", [Request("warm-up", {}, rows)])["requests"]
        return [(one.rows, one.correlation_id, one.is_start, one.is_end) for one in infos]

    assert infos(2) == [(1, "warm-up 0", True, True), (1, "warm-up 1", True, True)]
    assert infos(None) == [(None, "warm-up 0", True, True)]


def test_model_that_does_not_ask_has_nothing_read(monkeypatch):
    """Reading it costs every request; a request without its getters is answered all the same."""
    asked = []
    monkeypatch.setattr(reader, "read_info", lambda *args: asked.append(read_info(*args)) or asked[-1])
    with ModelHarness(Doubler, config=CONFIG) as model:
        model.infer(X=X)
    assert asked == []


def test_forward_by_position_takes_requests_behind_its_inputs():
    seen = []

    def forward(values, requests):
        seen.extend(one.id for one in requests)
        return values

    run(make_pipeline(forward), [1.0, 2.0])
    assert seen == ["0", "1"]


def test_requests_of_a_part_are_those_of_its_rows():
    """After a failure the batch is halved, and each half gets its own."""
    seen = []

    def forward(X, requests):
        seen.append([one.id for one in requests])
        if (X < 0).any():
            raise ValueError
        return X

    run(make_pipeline(forward), [1.0, -1.0])
    assert seen == [["0", "1"], ["0"], ["1"]]


def test_input_called_requests_is_an_input():
    def forward(requests):
        return requests

    pipeline = make_pipeline(forward, spec=make_spec(inputs=[TensorSpec("requests", "FP32", [2])]))
    request = make_request("a", 1.0)
    found = pipeline.run([request.with_inputs({"requests": request.inputs["X"]})])
    assert found[0]["Y"].tolist() == [[1.0, 1.0]]


def test_preprocess_whose_inputs_are_called_requests_is_refused():
    class Confused(Doubler):
        def preprocess(self, requests):
            return requests

    with pytest.raises(ConfigError, match=r"hook preprocess\(self, requests\): expected to be called with 1"):
        start(Confused)


def test_cuda_graphs_and_requests_are_refused_together():
    with pytest.raises(ConfigError, match="a graph repeats none of its Python, got the parameter 'requests'"):
        start(Asking, parameters={"kindaware.cuda_graphs": "1"})


def test_failure_of_a_request_whose_id_is_not_utf8_writes_its_bytes_as_escapes():
    def forward(X):
        if (X < 0).any():
            raise ValueError("negative")
        return X

    bad = TritonRequest(OddId(), {"X": -torch.ones(1, 2)}, 1)
    failure, answer = make_pipeline(forward).run([bad, make_request("fine", 1)])
    assert "request 'odd \\\\xff': expected forward to return" in failure.text
    assert answer["Y"].tolist() == [[1, 1]]


def test_id_that_is_not_utf8_is_refused_where_it_is_passed_on():
    request = TritonRequest(OddId(), {"X": torch.ones(1, 2)}, 1)
    text = r"request 'odd .*xff': expected an id in UTF-8, got UnicodeDecodeError"
    with pytest.raises(RequestError, match=text):
        request.context()
    adapter = SimpleNamespace(requests=SimpleNamespace(read=lambda _: [request]), responses=None)
    sent = SimpleNamespace(requested_output_names=set, get_response_sender=lambda: None)
    plan, health = make_plan(lambda X: X), make_device().health
    # What a stream keeps of a request.
    arrivals = StreamArrivals(plan, health, Counters(), outlives_execute=False)
    [(failure, _)] = arrivals.read(adapter, [sent])
    assert failure.code == "INVALID_ARG"
    assert re.match(text, failure.text)


def test_request_whose_id_is_not_utf8_is_refused_alone_where_a_hook_asks(host):
    by = reader.RequestReader(make_spec(), CpuRuntime(), REPORTER, reads_info=True)
    [refused] = by.read([host.request("odd \udcff", X=np.ones((1, 4), np.float32))])
    assert refused.code == "INVALID_ARG"
    assert "expected an id, parameters and a correlation id in UTF-8, got UnicodeDecodeError" in refused.text


def test_sequence_whose_name_is_not_utf8_is_none_that_could_be_forgotten():
    assert read_sequence(OddId()) is None


def test_question_for_the_client_that_fails_says_nothing_about_it():
    class Broken:
        def is_cancelled(self):
            raise RuntimeError("broken pipe")

    assert reader.is_cancelled(Broken()) is False
