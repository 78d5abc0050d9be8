"""Sends a case over HTTP or gRPC as it is, and returns what came back."""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from stress.fuzz.cases import Case
from stress.messages import Values, outputs_of, unpack

TIMEOUT_SECONDS = 30.0
"""Longer than any answer may take, on a machine that does other things, too."""

_CONTENTS = {
    "INT64": "int64_contents",
    "INT32": "int_contents",
    "FP32": "fp32_contents",
    "BYTES": "bytes_contents",
}


@dataclass
class Outcome:
    """What came back for a case.

    Attributes:
        kind: `answer`, `error`, `hang` if nothing came in time, `closed` if the connection ended without an
            answer, or `torn` for a case whose client went away.
        code: HTTP's status, or gRPC's code.
        text: of an error, or of an answer that can't be read.
        items: the outputs of each response, flat.
        request_id: of the first response; None if it says none.
    """

    kind: str
    code: str = ""
    text: str = ""
    items: list[Values] = field(default_factory=list)
    request_id: str | None = None


class Wire:
    """Connections to a server, one of each kind per thread.

    Args:
        http_url: host and port of HTTP.
        grpc_url: host and port of gRPC.
    """

    def __init__(self, http_url: str, grpc_url: str) -> None:
        self._http_url = http_url
        self._channel = grpc.insecure_channel(grpc_url)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        """Close all connections; no thread may use them any more."""
        self._channel.close()
        for connection in self._connections:
            connection.close()

    def send(self, case: Case) -> Outcome:
        """Send a case, and wait for its end."""
        if case.protocol == "grpc":
            return self._unary(case)
        if case.protocol == "stream":
            return self._stream(case)
        return self._http(case)

    def _http(self, case: Case) -> Outcome:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self._http_url, timeout=TIMEOUT_SECONDS)
            self._local.connection = connection
            self._connections.append(connection)
        try:
            _write_http(connection, case)
            if not case.is_whole:
                self._forget()
                return Outcome("torn")
            response = connection.getresponse()
            body = response.read()
        except TimeoutError:
            self._forget()
            return Outcome("hang")
        except (OSError, http.client.HTTPException) as error:
            self._forget()
            return Outcome("closed", text=repr(error))
        if response.will_close:
            self._forget()
        try:
            return _read_http(response, body, case)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            return Outcome("error", str(response.status), f"unreadable answer, {error!r}: {body[:300]!r}")

    def _forget(self) -> None:
        connection, self._local.connection = self._local.connection, None
        self._connections.remove(connection)
        connection.close()

    def _unary(self, case: Case) -> Outcome:
        try:
            response = self._stub.ModelInfer(_to_message(case), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            return _failed(error)
        return Outcome("answer", "OK", "", [outputs_of(response)], response.id)

    def _stream(self, case: Case) -> Outcome:
        outcome = Outcome("answer", "OK")
        try:
            for response in self._stub.ModelStreamInfer(iter([_to_message(case)]), timeout=TIMEOUT_SECONDS):
                if response.error_message:
                    outcome.kind, outcome.text = "error", response.error_message
                    continue
                outcome.request_id = response.infer_response.id
                if outputs := outputs_of(response.infer_response):
                    outcome.items.append(outputs)
        except grpc.RpcError as error:
            return _failed(error)
        return outcome


def _failed(error: Any) -> Outcome:
    code = error.code().name
    return Outcome("hang" if code == "DEADLINE_EXCEEDED" else "error", code, str(error.details()))


def _write_http(connection: http.client.HTTPConnection, case: Case) -> None:
    action = "infer" if case.protocol == "http" else "generate" if case.is_binary else "generate_stream"
    head, blob = _body_of(case)
    connection.putrequest("POST", f"/v2/models/{quote(case.model, safe='')}/{action}")
    # One byte more than is sent, of a case that is torn.
    connection.putheader("Content-Length", str(len(head) + len(blob) + (not case.is_whole)))
    named = {name for name, _ in case.headers}
    if case.body is None and blob and "Inference-Header-Content-Length" not in named:
        connection.putheader("Inference-Header-Content-Length", str(len(head)))
    for name, value in case.headers:
        connection.putheader(name, value)
    connection.endheaders(head + blob)


def _body_of(case: Case) -> tuple[bytes, bytes]:
    """Return the JSON, and what follows it."""
    if case.body is not None:
        return case.body, b""
    if case.protocol == "generate":
        inputs = {one.name: list(one.values or ()) for one in case.tensors}
        inputs = {name: values[0] if len(values) == 1 else values for name, values in inputs.items()}
        known = {"id": case.request_id} if case.request_id else {}
        return json.dumps({**inputs, **known, "parameters": case.parameters}).encode(), b""
    blobs = [one.data for one in case.tensors if case.is_binary or one.values is None]
    return json.dumps(case.to_json()).encode(), b"".join(blobs)


def _read_http(response: http.client.HTTPResponse, body: bytes, case: Case) -> Outcome:
    status = str(response.status)
    if case.protocol == "generate" and response.status == 200:
        return _read_generated(body, status)
    split = int(response.headers.get("Inference-Header-Content-Length", len(body)))
    # A client that sends text that isn't UTF-8 gets it back.
    text = body[:split].decode("utf-8", "surrogateescape")
    if case.protocol == "generate":  # generate_stream sends errors as events, too
        text = text.removeprefix("data: ")
    answer = json.loads(text) if text else {}
    if response.status != 200:
        return Outcome("error", status, answer.get("error", "") if isinstance(answer, dict) else text)
    items, start = {}, split
    for output in answer.get("outputs", ()):
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = _flat(output["data"])
            items[output["name"]] = [
                one.encode("utf-8", "surrogateescape") if isinstance(one, str) else one for one in values
            ]
        else:
            items[output["name"]] = unpack(output["datatype"], body[start : start + size])
            start += size
    return Outcome("answer", status, "", [items], answer.get("id"))


def _read_generated(body: bytes, status: str) -> Outcome:
    outcome = Outcome("answer", status)
    text = body.decode("utf-8", "surrogateescape")
    parts = [one.removeprefix("data: ") for one in text.split("\n\n") if one.strip()]
    for part in parts:
        item = json.loads(part)
        if "error" in item:
            outcome.kind, outcome.text = "error", item["error"]
        else:
            outcome.request_id = item.get("id")
            outcome.items.append({name: [item[name]] for name in ("KEY", "INDEX") if name in item})
    return outcome


def _flat(data: Any) -> list[Any]:
    return [one for inner in data for one in _flat(inner)] if isinstance(data, list) else [data]


def _to_message(case: Case) -> Any:
    request = service_pb2.ModelInferRequest(model_name=case.model, id=case.request_id)
    for name, value in case.parameters.items():
        _set_parameter(request.parameters[name], value)
    is_raw = case.is_binary or any(one.values is None for one in case.tensors)
    for one in case.tensors:
        entry = request.inputs.add(name=one.name, datatype=one.datatype, shape=list(one.shape))
        if is_raw:
            request.raw_input_contents.append(one.data)
        else:
            getattr(entry.contents, _CONTENTS[one.datatype]).extend(one.values or ())
    for name in case.outputs or ():
        request.outputs.add(name=name)
    return request


def _set_parameter(parameter: Any, value: Any) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        if value < 2**63:
            parameter.int64_param = value
        else:
            parameter.uint64_param = min(value, 2**64 - 1)
    elif isinstance(value, float):
        parameter.double_param = value
    elif isinstance(value, str):
        parameter.string_param = value
