"""A stand-in for `triton_python_backend_utils` that behaves as in a server; harnesses are built on it.

Nothing here enters `sys.modules`, loads a model or reads a configuration. The steps of a harness:

1. Derive from `Host`, one object per model instance: it is what the stand-in asks of the server, and it keeps
   the `TritonContractError`s that the model may have caught (`host.violations`). Move `host.phase` on.
2. `new_module(host)` is the module as model.py finds it while it is imported: pure Python names only.
   `new_c_module(host)` is `c_python_backend_utils`, the C++ half, which can be imported from the start.
3. `attach_classes(module, c_module, host)` adds the C++ names to the module after the import.
4. `new_server_request(host, inputs=[WireTensor.of("X", array)], ...)` is a request as `execute` gets it.
5. After `execute`: `check_returned(request, response)` for every element that is a response, then
   `send_returned(request, response)`; when an error left it, `fail_request(request)` for every request.
   What was sent through the sender comes to `host.on_send` at once, and stays in `state_of(request).sent`.
6. `answer_of(response, requested)` turns a response into what the client gets, without sending it.

Plain data goes in and out: `WireTensor`, `Answer`, `Failure`, `BlsCall`. `host.run_bls(call)` yields Answers.
`RefusalError` is what a Host raises where the server refuses. `MetricRegistry` holds the metrics of all
models of a server. `TritonModelException` is one class for all hosts; the others are bound to their host
(the unbound ones, exported here, are their base classes, for annotations and `isinstance`).
"""

from __future__ import annotations

from pathlib import Path

from kindaware.testing.stand_in.host.errors import RefusalError, TritonContractError
from kindaware.testing.stand_in.host.host import NEWEST, Host, Phase, RequestHandle
from kindaware.testing.stand_in.host.metrics import MetricRegistry
from kindaware.testing.stand_in.module import attach_classes, new_c_module, new_module
from kindaware.testing.stand_in.objects.request import InferenceRequest
from kindaware.testing.stand_in.objects.request_state import RequestState
from kindaware.testing.stand_in.objects.response import InferenceResponse, answer_of
from kindaware.testing.stand_in.objects.tensor import Tensor
from kindaware.testing.stand_in.objects.triton_error import TritonError, TritonModelException
from kindaware.testing.stand_in.server_side import (
    check_returned,
    fail_request,
    new_server_request,
    release_inputs,
    send_returned,
    state_of,
)
from kindaware.testing.stand_in.wire.wire import Answer, BlsCall, Failure, WireTensor

TYPINGS = Path(__file__).parent / "typings"
"""Folder for `mypy_path` and `stubPath`: the types of `triton_python_backend_utils`."""

__all__ = [
    "NEWEST",
    "TYPINGS",
    "Answer",
    "BlsCall",
    "Failure",
    "Host",
    "InferenceRequest",
    "InferenceResponse",
    "MetricRegistry",
    "Phase",
    "RefusalError",
    "RequestHandle",
    "RequestState",
    "Tensor",
    "TritonContractError",
    "TritonError",
    "TritonModelException",
    "WireTensor",
    "answer_of",
    "attach_classes",
    "check_returned",
    "fail_request",
    "new_c_module",
    "new_module",
    "new_server_request",
    "release_inputs",
    "send_returned",
    "state_of",
]
