"""What the load generator sends, and where to: requests are made once, as the bytes on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.networks import INPUT, OUTPUT

Protocol = Literal["http", "grpc"]


@dataclass(frozen=True)
class Target:
    """One model as the client sees it.

    Attributes:
        protocol: how it is asked.
        address: host and port.
        message: one request; over HTTP with its headers.
        process_group: of a server that `awake` has to wake; 0 for one that is always awake.
    """

    protocol: Protocol
    address: str
    message: bytes
    process_group: int = 0


def triton_target(
    protocol: Protocol, address: str, model: str, rows: torch.Tensor, process_group: int = 0
) -> Target:
    """Return the request of some rows to a model of a tritonserver, with binary tensors both ways."""
    make_message = _grpc_message if protocol == "grpc" else _http_message
    return Target(protocol, address, make_message(model, rows.numpy()), process_group)


def plain_target(address: str, path: str, rows: torch.Tensor, process_group: int = 0) -> Target:
    """Return the HTTP request whose body is the bytes of the rows."""
    return Target("http", address, _post(path, rows.numpy().tobytes()), process_group)


def read_values(target: Target, answer: bytes, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Return the FP32 output of an answer: its last bytes, or gRPC's raw contents."""
    if target.protocol == "grpc":
        from tritonclient.grpc.service_pb2 import ModelInferResponse

        answer = ModelInferResponse.FromString(answer).raw_output_contents[0]
    num_bytes = int(np.prod(shape)) * 4
    return np.frombuffer(answer[-num_bytes:], np.float32).reshape(shape)


def _http_message(model: str, array: np.ndarray[Any, Any]) -> bytes:
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
    from tritonclient.utils import np_to_triton_dtype

    tensor = InferInput(INPUT, array.shape, np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    body, head_length = InferenceServerClient.generate_request_body(
        [tensor], outputs=[InferRequestedOutput(OUTPUT)]
    )
    return _post(f"/v2/models/{model}/infer", body, f"Inference-Header-Content-Length: {head_length}")


def _post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/octet-stream", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def _grpc_message(model: str, array: np.ndarray[Any, Any]) -> bytes:
    from tritonclient.grpc.service_pb2 import ModelInferRequest
    from tritonclient.utils import np_to_triton_dtype

    request = ModelInferRequest(model_name=model)
    request.inputs.add(name=INPUT, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
    request.raw_input_contents.append(array.tobytes())
    message: bytes = request.SerializeToString()
    return message
