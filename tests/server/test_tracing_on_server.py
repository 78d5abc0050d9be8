"""Spans of a real server's models, as a collector gets them, and the log's lines of JSON."""

import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from complete_models import serve_complete
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.server

CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 8
input [ {{ name: "X" data_type: TYPE_FP32 dims: [ 1 ] }} ]
output [ {{ name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }} ]
instance_group [ {{ kind: KIND_CPU }} ]
parameters {{ key: "kindaware.tracing" value {{ string_value: "{is_on}" }} }}
parameters {{ key: "kindaware.warmup" value {{ string_value: "off" }} }}
{more}
"""
DECOUPLED = "model_transaction_policy { decoupled: true }"
MODELS = {
    "calls": """
    def forward(self, X):
        self.logger.info("calling")
        if (X < 0).any():
            raise ValueError("X is negative")
        return self.call("called", X=X)["Y"]
""",
    "called": """
    async def forward(self, X):
        return 2 * X
""",
    "streams": """
    async def stream(self, X):
        for _ in range(3):
            yield X
""",
    "steps": """
    def begin(self, X):
        return X

    def step(self, states):
        return [kindaware.Done(X) for X in states]
""",
    "silent": """
    def forward(self, X):
        import sys
        return X + sum("opentelemetry" in name for name in sys.modules)
""",
}


class Collected(NamedTuple):
    """A span: of which service, its name, ids in hexadecimal, and those of the linked spans."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    linked: tuple[str, ...]


def read_protobuf(body):
    """The spans that kindaware's exporter sends."""
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        about = {one.key: one.value.string_value for one in resource.resource.attributes}
        for one in itertools.chain.from_iterable(scope.spans for scope in resource.scope_spans):
            ids = one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex()
            linked = tuple(link.span_id.hex() for link in one.links)
            yield Collected(about["service.name"], one.name, *ids, linked)


def read_json(body):
    """The spans that Triton's exporter sends."""
    for resource in json.loads(body)["resourceSpans"]:
        for one in itertools.chain.from_iterable(scope["spans"] for scope in resource["scopeSpans"]):
            yield Collected(
                "triton", one["name"], one["traceId"], one["spanId"], one.get("parentSpanId", ""), ()
            )


class Collector:
    """Takes what exporters send over HTTP, as OTLP."""

    def __init__(self):
        self.spans = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                read = read_json if "json" in self.headers["Content-Type"] else read_protobuf
                collector.spans += read(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def trace(self, trace_id):
        return [one for one in list(self.spans) if one.trace_id == trace_id]

    def wait_for(self, trace_id, paths, end=""):
        """The paths of a trace's spans, when all of those wanted are among them, and one with such an end."""
        latest = time.monotonic() + 30
        while True:
            found = paths_of(self.trace(trace_id))
            if set(paths) <= set(found) and any(one.endswith(end) for one in found):
                return found
            assert time.monotonic() < latest, found
            time.sleep(0.1)


def paths_of(spans):
    """Service and names from the outermost span in, such as `m:kindaware.request/kindaware.execute`."""
    by_id = {one.span_id: one for one in spans}

    def path(span):
        above = by_id.get(span.parent_id)
        name = span.name.removeprefix("kindaware.")
        if above is None:
            return f"{span.service}:{name}"
        return (
            f"{path(above)}/{name}"
            if above.service == span.service
            else f"{path(above)}>{span.service}:{name}"
        )

    return list(map(path, spans))


def write_models(folder):
    for name, hooks in MODELS.items():
        (folder / name / "1").mkdir(parents=True)
        more = DECOUPLED if name in ("streams", "steps") else ""
        config = CONFIG.format(name=name, more=more, is_on=str(name != "silent").lower())
        (folder / name / "config.pbtxt").write_text(config)
        head = "import kindaware\n\n\nclass TritonPythonModel(kindaware.KindAwareModel):\n"
        (folder / name / "1/model.py").write_text(f"{head}    def load(self):\n        return None\n{hooks}")


FORWARD = "--{}-header-forward-pattern=(?i)traceparent|tracestate"
SERVICE = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_BSP_SCHEDULE_DELAY": "200", "KINDAWARE_LOG_FORMAT": "json"}


@pytest.fixture(scope="module")
def collector():
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory, collector):
    """A server that forwards the clients' headers, and traces with OpenTelemetry itself."""
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    traces = ["mode=opentelemetry", "level=TIMESTAMPS", "rate=1", f"opentelemetry,url={collector.url}"]
    args = [*(f"--trace-config={one}" for one in traces), "--grpc-header-forward-pattern=(?i)tracestate"]
    args.append(FORWARD.format("http"))
    env = {**SERVICE, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector.url}
    with serve_complete(folder, args=args, env=env) as running:
        yield running


def header(digit, trace_id=None):
    return {"traceparent": f"00-{trace_id or digit * 32}-{digit * 16}-01"}


def trace_joined(collector, digit, ask):
    """The trace that a gRPC request with such a header joined; Triton 2.51 loses the header of some."""
    for number in range(6):
        trace_id = f"{digit * 31}{number}"
        ask(header(digit, trace_id))
        latest = time.monotonic() + 10
        while time.monotonic() < latest:
            if collector.trace(trace_id):
                return trace_id
            time.sleep(0.05)
    raise AssertionError(f"none of 6 requests joined its client's trace; spans: {collector.spans}")


def value(x, kind=grpcclient):
    tensor = kind.InferInput("X", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.array([[x]], np.float32))
    return [tensor]


def test_spans_of_model_and_called_model_are_below_the_span_of_an_http_client(server, collector):
    with httpclient.InferenceServerClient(server.http_url) as client:
        answer = client.infer("calls", value(1, httpclient), headers=header("1"), request_id="r1")
    assert answer.as_numpy("Y").tolist() == [[2]]
    forward = "calls:request/execute/batch/forward/forward"
    called = f"{forward}/call called>called:request/execute/batch/forward/forward"
    found = collector.wait_for("1" * 32, [called])
    assert {"calls:request/execute/batch/read", "calls:request/execute/batch/respond"} <= set(found)
    spans = collector.trace("1" * 32)
    (request,) = [one for one in spans if (one.service, one.name) == ("calls", "kindaware.request")]
    assert request.parent_id == "1" * 16
    # Triton's span of the same request is linked; it comes when Triton exports it.
    assert len(request.linked) == 1


def test_the_parent_is_tritons_own_span_where_no_header_is_forwarded(server, collector):
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        trace_id = trace_joined(
            collector, "2", lambda headers: client.infer("called", value(1), headers=headers)
        )
    found = collector.wait_for(trace_id, [], ">called:request/execute/batch/forward/forward")
    assert any(one.startswith("triton:") and one.endswith("/forward/forward") for one in found)


@pytest.mark.parametrize(
    ("model", "paths"),
    [
        ("streams", ["stream/stream", "stream/copy out", "respond"]),
        ("steps", ["begin/begin", "step/step", "copy out", "respond"]),
    ],
)
def test_streams_have_spans_in_the_trace_of_their_client(server, collector, model, paths):
    digit = {"streams": "3", "steps": "4"}[model]

    def ask(headers):
        answered = threading.Event()
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            client.start_stream(lambda result, error: answered.set(), headers=headers)
            client.async_stream_infer(model, value(1))
            assert answered.wait(30)
            client.stop_stream()

    trace_id = trace_joined(collector, digit, ask)
    for path in paths:
        collector.wait_for(trace_id, [], f"{model}:request/{path}")


def test_a_failure_is_in_the_log_as_json_with_the_ids_of_request_and_trace(server, collector):
    with httpclient.InferenceServerClient(server.http_url) as client, pytest.raises(InferenceServerException):
        client.infer("calls", value(-1, httpclient), headers=header("5"), request_id="bad")
    lines = []
    latest = time.monotonic() + 20
    while len(lines) < 2:
        assert time.monotonic() < latest
        log = server.log_text().splitlines()
        lines = [json.loads(one) for one in log if one.startswith("{") and '"bad"' in one]
        time.sleep(0.1)
    called, failed = lines
    assert (called["level"], called["message"]) == ("info", "calling")
    assert (failed["level"], failed["code"], failed["request_ids"]) == ("error", "INTERNAL", ["bad"])
    assert {one["trace_id"] for one in lines} == {"5" * 32}
    assert (failed["model"], failed["version"], failed["instance"]) == ("calls", "1", "calls_0_0")
    # The server's own parts of the library read them as they read text.
    assert {one.name for one in server.instances()} >= {"calls_0_0", "silent_0_0"}


def test_a_model_without_tracing_has_not_imported_opentelemetry(server):
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        assert client.infer("silent", value(7)).as_numpy("Y").tolist() == [[7]]
