"""What the load generator sends, and where to: a request is made once, as the bytes on the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

import numpy as np

Arrays = Mapping[str, np.ndarray[Any, Any]]
Protocol = Literal["http", "grpc"]


@dataclass(frozen=True)
class Target:
    """One model as the load generator sees it.

    Attributes:
        protocol: how it is asked.
        address: host and port.
        message: one request; over HTTP with its headers.
        is_stream: whether a request has any number of answers; only over gRPC.
        metadata: of each call over gRPC.
    """

    protocol: Protocol
    address: str
    message: bytes
    is_stream: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)


def make_message(
    protocol: Protocol,
    model: str,
    arrays: Arrays,
    datatypes: Mapping[str, str],
    *,
    version: str = "",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return a request as the bytes on the wire, with binary tensors both ways.

    Args:
        protocol: how the server is asked.
        model: name of the model.
        arrays: inputs by name, with their batch dimension.
        datatypes: Triton's wire names of the inputs, such as `FP32`.
        version: of the model; the server chooses by default.
        headers: further ones of a request over HTTP; over gRPC they are no part of it.
    """
    contents = {name: _to_bytes(array, datatypes[name]) for name, array in arrays.items()}
    if protocol == "grpc":
        return _make_grpc(model, version, arrays, datatypes, contents)
    return _make_http(model, version, arrays, datatypes, contents, headers or {})


def make_post(path: str, body: bytes, *headers: str) -> bytes:
    """Return an HTTP request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/octet-stream", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def _make_http(
    model: str,
    version: str,
    arrays: Arrays,
    datatypes: Mapping[str, str],
    contents: Mapping[str, bytes],
    headers: Mapping[str, str],
) -> bytes:
    head = {
        "inputs": [
            {
                "name": name,
                "shape": array.shape,
                "datatype": datatypes[name],
                "parameters": {"binary_data_size": len(contents[name])},
            }
            for name, array in arrays.items()
        ],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    path = f"/v2/models/{quote(model, safe='')}{f'/versions/{version}' if version else ''}/infer"
    body = b"".join([text, *contents.values()])
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return make_post(path, body, f"Inference-Header-Content-Length: {len(text)}", *lines)


def _make_grpc(
    model: str,
    version: str,
    arrays: Arrays,
    datatypes: Mapping[str, str],
    contents: Mapping[str, bytes],
) -> bytes:
    from tritonclient.grpc.service_pb2 import ModelInferRequest

    request = ModelInferRequest(model_name=model, model_version=version)
    for name, array in arrays.items():
        request.inputs.add(name=name, datatype=datatypes[name], shape=array.shape)
        request.raw_input_contents.append(contents[name])
    message: bytes = request.SerializeToString()
    return message


def _to_bytes(array: np.ndarray[Any, Any], datatype: str) -> bytes:
    """Return the values as the server takes them; BF16 are the upper halves of float32."""
    if datatype == "BF16":
        return (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    if datatype != "BYTES":
        return array.tobytes()
    from tritonclient.utils import serialize_byte_tensor

    packed: bytes = serialize_byte_tensor(array).item() if array.size else b""
    return packed
