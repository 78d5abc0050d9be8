"""Requests over HTTP on their way to a replica's server, here one that says what it was asked."""

import asyncio
import json
import socket

import pytest

aiohttp = pytest.importorskip("aiohttp", reason="no aiohttp: pip install 'kindaware[ray]'")
pytest.importorskip("starlette", reason="no starlette: pip install 'kindaware[ray]'")

from aiohttp import web  # noqa: E402
from starlette.requests import Request  # noqa: E402

from kindaware.ray._forwarder import Forwarder  # noqa: E402


async def echo(request):
    body = await request.read()
    if request.path.endswith("/generate_stream"):
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for part in (b"data: 1\n\n", b"data: 2\n\n"):
            await answer.write(part)
            await asyncio.sleep(0.01)
        return answer
    told = {"path": request.raw_path, "body": body.decode("latin-1"), "headers": dict(request.headers)}
    return web.Response(
        body=json.dumps(told).encode(),
        status=int(request.query.get("status", 200)),
        headers={"Inference-Header-Content-Length": "7", "Content-Type": "application/octet-stream"},
    )


def forward(method, path, *, body=b"", headers=(), root_path="", query="", chunks=None):
    """Forward one request to the server, and return the answer's status, headers and body."""

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def run():
        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", echo)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = site._server.sockets[0].getsockname()
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "root_path": root_path,
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        }
        forwarder = Forwarder(f"{host}:{port}")
        answer = await forwarder.forward(Request(scope, receive))
        if hasattr(answer, "body_iterator"):
            parts = [part async for part in answer.body_iterator]
            chunks.extend(parts)
            content = b"".join(parts)
        else:
            content = answer.body
        await forwarder._open().close()
        await runner.cleanup()
        return answer.status_code, dict(answer.headers), content

    return asyncio.run(run())


def test_body_and_headers_arrive_as_they_are_and_so_does_the_answer():
    status, headers, content = forward(
        "POST",
        "/v2/models/net/infer",
        body=b"{}\x00\xff",
        headers=[("Inference-Header-Content-Length", "2"), ("traceparent", "00-1-2-01"), ("Host", "other")],
    )
    told = json.loads(content)
    assert (status, told["body"]) == (200, "{}\x00\xff")
    assert told["headers"]["inference-header-content-length"] == "2"
    assert told["headers"]["traceparent"] == "00-1-2-01"
    assert told["headers"]["Host"] != "other"
    assert headers["inference-header-content-length"] == "7"
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-length"] == str(len(content))


def test_prefix_of_the_application_is_left_out_and_the_query_stays():
    _, _, content = forward(
        "GET", "/shop/v2/models/a b/versions/2/stats", root_path="/shop", query="x=%20y&status=200"
    )
    assert json.loads(content)["path"] == "/v2/models/a%20b/versions/2/stats?x=%20y&status=200"


def test_error_of_the_server_keeps_its_status():
    assert forward("POST", "/v2/models/net/infer", query="status=400")[0] == 400


def test_event_stream_is_passed_on_as_it_comes():
    chunks = []
    _, headers, content = forward("POST", "/v2/models/net/generate_stream", chunks=chunks)
    assert content == b"data: 1\n\ndata: 2\n\n"
    assert len(chunks) == 2
    assert headers["content-type"].startswith("text/event-stream")


ALLOWED = [
    ("GET", "/v2"),
    ("GET", "/v2/health/ready"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/models/stats"),
    ("GET", "/v2/models/net"),
    ("GET", "/v2/models/net/ready"),
    ("GET", "/v2/models/net/versions/1/config"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/models/net/versions/1/infer"),
    ("POST", "/v2/models/net/generate"),
]
REFUSED = [
    ("POST", "/v2/repository/models/net/load"),
    ("POST", "/v2/repository/models/net/unload"),
    ("POST", "/v2/systemsharedmemory/region/a/register"),
    ("GET", "/v2/cudasharedmemory/status"),
    ("POST", "/v2/trace/setting"),
    ("POST", "/v2/models/net/trace/setting"),
    ("GET", "/v2/logging"),
    ("POST", "/v2/logging"),
    ("DELETE", "/v2/models/net/infer"),
    ("GET", "/metrics"),
    ("POST", "/v2/models/net/../../repository/models/net/unload"),
    ("POST", "/v2/models/a/versions/1/load"),
    ("POST", "/v2/models/net/infer\n"),
]


@pytest.mark.parametrize(("method", "path"), ALLOWED)
def test_what_every_replica_answers_alike_is_forwarded(method, path):
    status, _, content = forward(method, path)
    assert (status, json.loads(content)["path"]) == (200, path)


@pytest.mark.parametrize(("method", "path"), REFUSED)
def test_what_one_replica_alone_would_learn_is_refused(method, path):
    status, _, content = forward(method, path)
    assert status == 403
    assert "expected a request that every replica answers alike" in json.loads(content)["error"]


def test_server_that_can_not_be_reached_is_unavailable():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def run():
        scope = {"type": "http", "method": "GET", "path": "/v2", "query_string": b"", "headers": []}
        forwarder = Forwarder(f"127.0.0.1:{port}")
        answer = await forwarder.forward(Request(scope, receive))
        await forwarder._open().close()
        return answer

    answer = asyncio.run(run())
    assert answer.status_code == 503
    text = json.loads(answer.body)["error"]
    assert text.startswith(f"tritonserver at 127.0.0.1:{port}: expected an answer, got ClientConnectorError")
