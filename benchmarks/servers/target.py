"""What the benchmarks send, and where to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.networks import INPUT
from benchmarks.text import PROMPT, WANTED, make_prompt
from kindaware.cli.bench import _target
from kindaware.cli.bench._target import Protocol, make_message, make_post

__all__ = [
    "Protocol",
    "Target",
    "plain_target",
    "post_text_target",
    "read_values",
    "text_target",
    "triton_target",
]


@dataclass(frozen=True)
class Target(_target.Target):
    """One model as the load generator sees it.

    Attributes:
        process_group: of a server that `awake` has to wake; 0 for one that is always awake.
    """

    process_group: int = 0


def triton_target(
    protocol: Protocol, address: str, model: str, rows: torch.Tensor, process_group: int = 0
) -> Target:
    """Return the request of some rows to a model of a tritonserver, with binary tensors both ways."""
    from tritonclient.utils import np_to_triton_dtype

    array = rows.numpy()
    message = make_message(protocol, model, {INPUT: array}, {INPUT: np_to_triton_dtype(array.dtype)})
    return Target(protocol, address, message, process_group=process_group)


def plain_target(address: str, path: str, rows: torch.Tensor, process_group: int = 0) -> Target:
    """Return the HTTP request whose body is the bytes of the rows."""
    body = rows.numpy().tobytes()
    return Target("http", address, make_post(path, body), process_group=process_group)


def text_target(protocol: Protocol, address: str, model: str, wanted: int) -> Target:
    """Return the request for a text of so many tokens to a model of a tritonserver."""
    if protocol == "http":
        return post_text_target(address, f"/v2/models/{model}/generate_stream", wanted)
    arrays = {PROMPT: make_prompt().numpy(), WANTED: np.array([wanted], np.int32)}
    message = make_message(protocol, model, arrays, dict.fromkeys(arrays, "INT32"))
    return Target(protocol, address, message, is_stream=True)


def post_text_target(address: str, path: str, wanted: int, process_group: int = 0) -> Target:
    """Return the request for a text as JSON; its items are server-sent events."""
    body = json.dumps({PROMPT: make_prompt().tolist(), WANTED: wanted}).encode()
    return Target("http", address, make_post(path, body), is_stream=True, process_group=process_group)


def read_values(target: Target, answer: bytes, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Return the FP32 output of an answer: its last bytes, or gRPC's raw contents."""
    if target.protocol == "grpc":
        from tritonclient.grpc.service_pb2 import ModelInferResponse

        answer = ModelInferResponse.FromString(answer).raw_output_contents[0]
    num_bytes = int(np.prod(shape)) * 4
    return np.frombuffer(answer[-num_bytes:], np.float32).reshape(shape)
