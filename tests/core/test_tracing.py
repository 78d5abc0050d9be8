"""The spans of requests, stages, hooks and calls: what contains what, what is linked, what is current."""

import asyncio
import json
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from call_kit import Caller, calling, open_harness
from core_kit import Doubler, make_args, start, written_config
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from step_kit import Values, together, until
from stream_kit import CONFIG as STREAM_CONFIG
from stream_kit import Async, Plain
from trace_kit import EXPORTER, ON, Seen, install, links, traceparent

from kindaware import ConfigError, KindAwareModel, RequestError
from kindaware._config.args import InstanceArgs
from kindaware._hooks.attachment import attached
from kindaware._tracing import provider
from kindaware.testing import ModelHarness

CONFIG = written_config(2)


@pytest.fixture(autouse=True)
def _provider():
    install()
    EXPORTER.clear()


class Hooked(KindAwareModel):
    """Has every hook of a batch; refuses numbers below 0, fails for those above 100."""

    def load(self):
        self.current = []

    def note(self):
        self.current.append(getattr(trace.get_current_span(), "name", None))

    def preprocess(self, inputs):
        self.note()
        if (inputs["X"] < 0).any():
            raise RequestError("X is negative", code="UNSUPPORTED")
        return inputs

    def row_cost(self, inputs):
        self.note()
        return 1

    def collate(self, name, tensors):
        self.note()
        return torch.cat(tensors)

    def forward(self, X):
        self.note()
        if (X > 100).any():
            raise ValueError("X is too large")
        return X

    def postprocess(self, outputs):
        self.note()
        return outputs


def load(model_class, config=CONFIG, **options):
    return ModelHarness(model_class, config=config, parameters=ON, raise_errors=False, **options)


def entry(value, number):
    """A request that a client has sent in a span of its own."""
    return {
        "inputs": {"X": [[value, value]]},
        "request_id": f"r{number}",
        "parameters": {"traceparent": traceparent(number)},
    }


def test_requests_of_a_batch_have_a_span_each_in_the_trace_of_their_client():
    with load(Hooked) as model:
        model.infer_batch([entry(1, 1), entry(2, 2)])
    first, second = Seen().all("request")
    assert [one.context.trace_id for one in (first, second)] == [int("1" * 32, 16), int("2" * 32, 16)]
    assert [one.parent.span_id for one in (first, second)] == [int("1" * 16, 16), int("2" * 16, 16)]
    assert dict(second.attributes) == {
        "kindaware.model": "m",
        "kindaware.version": "1",
        "kindaware.instance": "m_0",
        "kindaware.request_id": "r2",
    }


def test_each_stage_and_each_hook_of_a_batch_has_a_span_where_it_belongs():
    with load(Hooked) as model:
        model.infer_batch([entry(1, 1), entry(2, 2)])
        noted = model.instance.current
    preprocess = ["request/preprocess", "request/preprocess/@preprocess", "request/preprocess/@row_cost"]
    in_batch = [
        "collate",
        "collate/@collate",
        "collate",
        "forward",
        "forward/@forward",
        "postprocess",
        "postprocess/@postprocess",
        "copy out",
    ]
    assert Seen().paths() == [
        "request",
        "request",
        "request/execute",
        "request/execute/read",
        *preprocess,
        *preprocess,
        "request/execute/batch",
        *(f"request/execute/batch/{one}" for one in in_batch),
        "request/execute/split",
        "request/execute/respond",
    ]
    assert noted == ["preprocess", "row_cost"] * 2 + ["collate", "forward", "postprocess"]


def test_a_batch_is_linked_with_its_requests_and_they_with_it():
    with load(Hooked) as model:
        model.infer_batch([entry(1, 1), entry(-1, 2), entry(3, 3)])
    seen = Seen()
    first, refused, third = sorted(
        seen.all("request"), key=lambda one: one.attributes["kindaware.request_id"]
    )
    batch = seen.one("request/execute/batch")
    assert links(batch) == {first.context.span_id, third.context.span_id}
    assert batch.attributes["kindaware.requests"] == 2
    # The first is above the batch already.
    assert [links(one) for one in (first, refused, third)] == [set(), set(), {batch.context.span_id}]
    assert (refused.attributes["kindaware.code"], refused.status.status_code) == (
        "UNSUPPORTED",
        StatusCode.ERROR,
    )
    assert refused.status.description == "X is negative"


def test_what_is_done_for_several_requests_is_in_the_trace_of_the_first_that_is_sampled():
    unsampled = {**entry(1, 1), "parameters": {"traceparent": traceparent(1)[:-1] + "0"}}
    with load(Hooked) as model:
        model.infer_batch([unsampled, entry(2, 2)])
    assert {one.context.trace_id for one in Seen().spans} == {int("2" * 32, 16)}


def test_an_error_of_forward_is_in_the_span_of_the_hook_and_its_code_in_those_of_the_requests():
    with load(Hooked) as model:
        model.infer_batch([entry(1, 1), entry(101, 2)])
    seen = Seen()
    # Both, then each alone.
    hooks = seen.all("request/execute/batch/forward/@forward")
    events = [[event.attributes["exception.type"] for event in one.events] for one in hooks]
    assert events == [["ValueError"], [], ["ValueError"]]
    assert not [one for one in seen.spans if one.events and one not in hooks]
    codes = {
        one.attributes["kindaware.request_id"]: one.attributes.get("kindaware.code")
        for one in seen.all("request")
    }
    assert codes == {"r1": None, "r2": "INTERNAL"}


def test_a_plain_model_on_the_fast_path_has_spans_too():
    with load(Doubler) as model:
        assert attached(model.instance, "test")._executor.fast_path is not None
        assert model.infer_batch([entry(1, 1), entry(2, 2)])[1].outputs["Y"].tolist() == [[4, 4]]
    batch = "request/execute/batch"
    assert Seen().paths() == [
        "request",
        "request",
        "request/execute",
        batch,
        *(
            f"{batch}/{one}"
            for one in ("read", "collate", "forward", "forward/@forward", "postprocess", "respond")
        ),
    ]


def test_forward_that_is_asynchronous_has_its_span_current_between_awaits():
    class Waiting(Doubler):
        async def forward(self, X):
            await asyncio.sleep(0.001)
            with trace.get_tracer("mine").start_as_current_span("lookup"):
                await asyncio.sleep(0.001)
            return X

    with load(Waiting) as model:
        model.infer(X=[[1, 2]])
    assert "request/execute/batch/forward/@forward/@lookup" in Seen().paths()


def triton_context(number):
    """What request.trace().get_context() returns if the server traces with OpenTelemetry."""
    return json.dumps({"traceparent": traceparent(number)})


def test_the_parent_is_tritons_span_where_the_client_has_sent_none():
    with load(Doubler) as model:
        model.infer(X=[[1, 2]], trace=triton_context(5))
    request = Seen().one("request")
    assert (request.context.trace_id, request.parent.span_id) == (int("5" * 32, 16), int("5" * 16, 16))
    assert not request.links


def test_the_parent_is_the_clients_span_where_there_are_both_and_tritons_is_linked():
    with load(Doubler) as model:
        model.infer(X=[[1, 2]], trace=triton_context(5), parameters={"Traceparent": traceparent(6)})
    request = Seen().one("request")
    assert request.parent.span_id == int("6" * 16, 16)
    assert links(request) == {int("5" * 16, 16)}


def test_a_request_without_any_span_begins_a_trace():
    with load(Doubler) as model:
        model.infer_batch([{"X": [[1, 2]]}, {"X": [[1, 2]]}])
    first, second = Seen().all("request")
    assert (first.parent, second.parent) == (None, None)
    assert first.context.trace_id != second.context.trace_id


def test_the_warm_up_has_no_spans():
    with ModelHarness(Hooked, config=CONFIG, parameters={"kindaware.tracing": "true"}) as model:
        assert model.instance.current
    assert Seen().spans == []


def test_tracing_that_is_off_wraps_nothing():
    with ModelHarness(Hooked, config=CONFIG) as model:
        instance = attached(model.instance, "test")
        wrapped = [stage for stage in instance.stages() if stage.method in vars(stage.owner)]
        model.infer(X=[[1, 2]])
    assert (wrapped, "new_request" in vars(instance.calls), Seen().spans) == ([], False, [])


@pytest.mark.parametrize("model_class", [Plain, Async])
def test_a_stream_has_a_span_for_each_item(model_class):
    with load(model_class, STREAM_CONFIG) as model:
        sent = {"request_id": "r1", "parameters": {"traceparent": traceparent(1)}}
        assert len(list(model.stream(N=[[2]], **sent))) == 2
    seen = Seen()
    request = seen.one("request")
    assert (request.context.trace_id, request.attributes["kindaware.items"]) == (int("1" * 32, 16), 2)
    assert len(seen.all("request/stream/@stream")) == 3  # the last finds the end
    for stage in ("request/stream/postprocess", "request/stream/copy out", "request/respond"):
        assert len(seen.all(stage)) == 2
    assert len(seen.all("request/stream/copy in")) == 1


def test_streams_that_run_at_once_keep_their_spans_apart():
    class Named(Async):
        async def stream(self, N):
            for _ in range(3):
                with trace.get_tracer("mine").start_as_current_span("work"):
                    await asyncio.sleep(0.002)
                    yield N

    with load(Named, STREAM_CONFIG) as model:
        requests = [
            {"inputs": {"N": [[n]]}, "parameters": {"traceparent": traceparent(n)}} for n in (1, 2, 3)
        ]
        for one in model.stream_batch(requests):
            assert len(list(one)) == 3
    ids = [one.context.trace_id for one in Seen().spans if one.name == "work"]
    assert sorted(ids) == [int(str(n) * 32, 16) for n in (1, 1, 1, 2, 2, 2, 3, 3, 3)]


def test_a_stream_that_fails_has_its_code_and_the_items_before():
    class Failing(Plain):
        def stream(self, N):
            yield N
            raise ValueError("no more")

    with load(Failing, STREAM_CONFIG) as model:
        list(model.stream(N=[[2]]))
    seen = Seen()
    request = seen.one("request")
    assert (request.attributes["kindaware.code"], request.attributes["kindaware.items"]) == ("INTERNAL", 1)
    assert [len(one.events) for one in seen.all("request/stream/@stream")] == [0, 1]


def test_a_step_is_linked_with_the_streams_that_it_computes():
    with load(together(Values, 2), STREAM_CONFIG) as model:
        requests = [{"inputs": {"N": [[2]]}, "parameters": {"traceparent": traceparent(n)}} for n in (1, 2)]
        for one in model.stream_batch(requests):
            assert len(list(one)) == 2
        until(lambda: len(Seen().all("request")) == 2)
    seen = Seen()
    ids = {one.context.trace_id: one.context.span_id for one in seen.all("request")}
    assert set(ids) == {int("1" * 32, 16), int("2" * 32, 16)}
    assert {one.context.trace_id for one in seen.all("request/begin/@begin")} == set(ids)
    both = [one for one in seen.all("request/step") if one.links]
    of_first, second = int("1" * 32, 16), ids[int("2" * 32, 16)]
    assert {(one.context.trace_id, *links(one)) for one in both} == {(of_first, second)}
    assert {one.context.trace_id for one in seen.all("request/end/@end")} == set(ids)
    assert seen.all("request/step/@step")
    assert len(seen.all("request/respond")) == 4
    assert [one.attributes["kindaware.items"] for one in seen.all("request")] == [2, 2]


def test_requests_of_calls_that_overlap_have_spans_that_end():
    parameters = {**ON, "kindaware.overlap_calls": "true", "kindaware.warmup": "off"}
    options = {"kind": "GPU", "accelerator": "simulated", "config": CONFIG}
    with ModelHarness(Doubler, parameters=parameters, **options) as model:
        for _ in range(2):
            model.infer(X=torch.ones(1, 2))
        until(lambda: len(Seen().all("request")) == 2)


def test_tracing_without_its_package_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "kindaware._tracing.tracing", None)
    with pytest.raises(ConfigError, match=r"model 'm' tracing: .*pip install 'kindaware\[otel\]'"):
        start(Doubler, parameters=ON)


def traced_call(work, base=Caller):
    with open_harness(calling(work, base), parameters=ON) as model:
        model.model("echo")
        return model.infer(X=[[1.0, 2.0]], parameters={"traceparent": traceparent(1)})


class TracedCaller(Caller):
    tracing = True


def test_a_call_passes_the_current_span_on():
    assert traced_call(lambda self, X: self.call("echo", X=X, parameters={"mine": 1})["Y"]).error is None
    seen = Seen()
    call = seen.one("request/execute/batch/forward/@forward/@call echo")
    assert (call.kind, call.attributes["kindaware.called_model"]) == (trace.SpanKind.CLIENT, "echo")
    assert call.context.trace_id == int("1" * 32, 16)


def test_a_called_model_that_traces_is_below_the_call():
    with open_harness(calling(lambda self, X: self.call("double", X=X)["Y"]), parameters=ON) as model:
        model.add_model(
            Doubler,
            {
                **written_config(2),
                "name": "double",
                "parameters": {
                    "kindaware.tracing": {"string_value": "true"},
                    "kindaware.warmup": {"string_value": "off"},
                },
            },
        )
        assert model.infer(X=[[1.0, 2.0]]).error is None
    seen = Seen()
    called = "request/execute/batch/forward/@forward/@call double/request"
    assert seen.one(called).attributes["kindaware.model"] == "double"
    assert seen.one(f"{called}/execute/batch/forward/@forward")
    assert len({one.context.trace_id for one in seen.spans}) == 1


def test_a_call_that_is_refused_has_the_reason():
    result = traced_call(lambda self, X: self.call("echo", X=-X)["Y"])
    assert result.error is not None
    call = Seen().one("request/execute/batch/forward/@forward/@call echo")
    assert (call.status.status_code, call.status.description) == (StatusCode.ERROR, "X is negative")


def test_calls_of_asynchronous_hooks_and_of_streams_have_spans():
    class Waiting(Caller):
        async def forward(self, X):
            await self.call_async("echo", X=X)
            async for _ in self.call_stream("count", X=X + 2):
                pass
            return X

    assert traced_call(None, Waiting).error is None
    seen = Seen()
    hook = "request/execute/batch/forward/@forward"
    assert seen.one(f"{hook}/@call echo")
    assert seen.one(f"{hook}/@call count").attributes["kindaware.responses"] >= 3


def test_an_instance_on_a_gpu_has_the_copies_to_it_and_back_too():
    with load(Hooked, kind="GPU", accelerator="simulated") as model:
        assert model.infer(X=[[1, 2]]).error is None
    batch = [one.removeprefix("request/execute/batch/") for one in Seen().paths() if "execute/batch/" in one]
    assert [one for one in batch if "@" not in one] == [
        "collate",
        "copy in",
        "forward",
        "postprocess",
        "copy out",
    ]


class Countdown(KindAwareModel):
    """Wants a request again until its number, counted down, is 0."""

    def load(self):
        """Make nothing."""

    def forward(self, X, requests):
        left = self.sequence_state.get(requests[0].correlation_id, int(X[0, 0])) - 1
        self.sequence_state[requests[0].correlation_id] = left
        if left > 0:
            self.reschedule(requests[0])
        return X


def test_a_request_of_a_sequence_that_comes_again_has_a_span_each_time():
    config = {**CONFIG, "sequence_batching": {"oldest": {}, "iterative_sequence": True}}
    with load(Countdown, config) as model:
        model.infer(X=[[3, 3]], correlation_id=7, flags=1, parameters={"traceparent": traceparent(1)})
    seen = Seen()
    again = [one.attributes.get("kindaware.rescheduled", False) for one in seen.all("request")]
    assert again == [True, True, False]
    assert len(seen.all("request/execute/batch/forward/@forward")) == 3
    assert {one.context.trace_id for one in seen.spans} == {int("1" * 32, 16)}


def test_an_instance_that_ends_exports_its_spans_and_waits_no_longer_than_it_may(monkeypatch):
    flushed, is_over = [], threading.Event()
    monkeypatch.setattr(trace.get_tracer_provider(), "force_flush", lambda: flushed.append(1))
    with load(Doubler) as model:
        model.infer(X=[[1, 2]])
    assert flushed == [1]
    monkeypatch.setattr(provider, "FLUSH_SECONDS", 0.01)
    assert not provider.flush(SimpleNamespace(force_flush=is_over.wait))
    is_over.set()


def provider_of(**environment):
    args = InstanceArgs.from_dict(make_args())
    return provider._make_provider(args, environment)


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"OTEL_TRACES_EXPORTER": "zippkin"}, "an exporter that is installed: none, console.*'zippkin'"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "expected http/protobuf or grpc, got 'http/json'"),
    ],
)
def test_variables_that_can_not_be_are_refused(environment, text):
    with pytest.raises(ConfigError, match=text):
        provider_of(**environment)


def test_the_service_is_the_model_unless_the_environment_names_one():
    assert provider_of(OTEL_TRACES_EXPORTER="none").resource.attributes["service.name"] == "m"
