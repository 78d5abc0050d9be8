"""What the load generator sends, and where to: requests are built once, as the bytes on the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from benchmarks.networks import INPUT, OUTPUT

Protocol = Literal["http", "grpc"]
_TYPES = {"float32": "FP32", "int64": "INT64"}


@dataclass(frozen=True)
class Target:
    """One model as the client sees it.

    Attributes:
        protocol: how it is asked.
        address: host and port.
        message: one request; over HTTP with its headers.
        process_group: of a server that `servers.awake` has to wake; 0 for one that is always awake.
    """

    protocol: Protocol
    address: str
    message: bytes
    process_group: int = 0


def triton_target(protocol: Protocol, address: str, model: str, rows: torch.Tensor) -> Target:
    """Make the request of some rows to a model of a tritonserver, with binary tensors both ways."""
    if protocol == "grpc":
        return Target(protocol, address, _grpc_message(model, rows))
    array = rows.numpy()
    tensor = {
        "name": INPUT,
        "shape": list(array.shape),
        "datatype": _TYPES[str(array.dtype)],
        "parameters": {"binary_data_size": array.nbytes},
    }
    output = {"name": OUTPUT, "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return Target(
        protocol, address, _http_message(f"/v2/models/{model}/infer", head + array.tobytes(), headers)
    )


def plain_target(address: str, path: str, rows: torch.Tensor) -> Target:
    """Make the HTTP request whose body is the bytes of the rows."""
    return Target("http", address, _http_message(path, rows.numpy().tobytes(), {}))


def read_values(target: Target, answer: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Take the FP32 output out of an answer: its last bytes, or gRPC's raw contents."""
    if target.protocol == "grpc":
        from tritonclient.grpc.service_pb2 import ModelInferResponse

        answer = ModelInferResponse.FromString(answer).raw_output_contents[0]
    num_bytes = int(np.prod(shape)) * 4
    return np.frombuffer(answer[-num_bytes:], np.float32).reshape(shape)


def _http_message(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/octet-stream"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _grpc_message(model: str, rows: torch.Tensor) -> bytes:
    from tritonclient.grpc.service_pb2 import ModelInferRequest

    array = rows.numpy()
    request = ModelInferRequest(model_name=model)
    tensor = request.inputs.add()
    tensor.name, tensor.datatype = INPUT, _TYPES[str(array.dtype)]
    tensor.shape.extend(array.shape)
    request.raw_input_contents.append(array.tobytes())
    message: bytes = request.SerializeToString()
    return message
