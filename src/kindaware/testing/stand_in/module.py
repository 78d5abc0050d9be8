"""The two modules, in their two phases."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from kindaware.testing.stand_in.host.host import Host
from kindaware.testing.stand_in.objects import python_functions
from kindaware.testing.stand_in.objects.bls import ResponseIterator
from kindaware.testing.stand_in.objects.logger import Logger
from kindaware.testing.stand_in.objects.memory import MemoryType, PreferredMemory
from kindaware.testing.stand_in.objects.metric_family import Metric, MetricFamily, MetricKind
from kindaware.testing.stand_in.objects.model_config import ModelConfig
from kindaware.testing.stand_in.objects.model_control import FUNCTIONS
from kindaware.testing.stand_in.objects.request import InferenceRequest
from kindaware.testing.stand_in.objects.response import InferenceResponse
from kindaware.testing.stand_in.objects.sender import InferenceResponseSender
from kindaware.testing.stand_in.objects.shared_memory import SharedMemory
from kindaware.testing.stand_in.objects.tensor import Tensor
from kindaware.testing.stand_in.objects.trace import InferenceTrace
from kindaware.testing.stand_in.objects.triton_error import TritonError, TritonModelException
from kindaware.testing.stand_in.pybind.pybind import MODULE, bind, make

_CONSTANTS = {
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_START": 1,
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_END": 2,
    "TRITONSERVER_RESPONSE_COMPLETE_FINAL": 1,
    "TRITONSERVER_REQUEST_RELEASE_ALL": 1,
    "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE": 2,
}

_HELPERS = (
    python_functions.deserialize_bytes_tensor,
    python_functions.get_input_config_by_name,
    python_functions.get_input_tensor_by_name,
    python_functions.get_output_config_by_name,
    python_functions.get_output_tensor_by_name,
    python_functions.numpy_to_triton_type,
    python_functions.serialize_byte_tensor,
    python_functions.triton_string_to_numpy,
    python_functions.triton_to_numpy_type,
    python_functions.using_decoupled_model_transaction_policy,
)

_ON_PB_UTILS = (
    "InferenceRequest",
    "InferenceResponse",
    "Logger",
    "MetricFamily",
    "PreferredMemory",
    "TRITONSERVER_MEMORY_CPU",
    "TRITONSERVER_MEMORY_GPU",
    "Tensor",
    "TritonError",
    "TritonModelException",
)


def new_module(host: Host) -> ModuleType:
    """Return `triton_python_backend_utils` as model.py finds it while it is imported.

    It has no file, so its `__file__` is None; in a server it is the path of the backend's own.
    """
    module = _module("triton_python_backend_utils", f"Stand-in, as of model {host.model_name!r}.")
    names: dict[str, Any] = {"np": np, "json": json, "struct": struct, "ModelConfig": ModelConfig}
    names.update(_CONSTANTS, TRITON_STRING_TO_NUMPY=dict(python_functions.TRITON_STRING_TO_NUMPY))
    names.update({function.__name__: function for function in _HELPERS})
    vars(module).update(names, __file__=None)
    return module


def new_c_module(host: Host) -> ModuleType:
    """Return `c_python_backend_utils`, which is built into the stub: model.py can import it at once."""
    module = _module(MODULE)
    host.classes = SimpleNamespace(**_bound_classes(host))
    names: dict[str, Any] = {
        **vars(host.classes),
        "InferenceTrace": InferenceTrace,
        "MemoryType": MemoryType,
        "MetricKind": MetricKind,
        "PreferredMemory": PreferredMemory,
        "SharedMemory": SharedMemory,
        "TritonError": TritonError,
        "TritonModelException": TritonModelException,
        **_functions(host, is_in_c=True),
        **MemoryType.__members__,
        **MetricKind.__members__,
    }
    vars(module).update(names)
    return module


def attach_classes(module: ModuleType, c_module: ModuleType, host: Host) -> None:
    """Add what the server adds to both modules after the import of model.py.

    Source: python_backend `pb_stub.cc`, Stub::Initialize (commit f9088ff).
    """
    vars(c_module)["shared_memory"] = make(SharedMemory, None)
    shared = (*_ON_PB_UTILS, *_functions(host, is_in_c=True))
    vars(module).update({name: vars(c_module)[name] for name in shared})
    vars(module).update(_functions(host, is_in_c=False))


def _module(name: str, doc: str | None = None) -> ModuleType:
    """Return a module with a spec, so that `importlib.util.find_spec` finds it among the loaded ones."""
    module = ModuleType(name, doc)
    module.__spec__ = ModuleSpec(name, None)
    return module


def _bound_classes(host: Host) -> dict[str, Any]:
    """Return the classes bound to their host, with the methods that its version has."""
    return {
        "InferenceRequest": bind(InferenceRequest, host),
        "InferenceResponse": bind(InferenceResponse, host),
        "InferenceResponseSender": bind(InferenceResponseSender, host),
        "Logger": bind(Logger, host),
        "Metric": bind(Metric, host),
        "MetricFamily": bind(MetricFamily, host),
        "ResponseIterator": bind(ResponseIterator, host),
        "Tensor": bind(Tensor, host),
    }


def _functions(host: Host, *, is_in_c: bool) -> dict[str, Callable[..., Any]]:
    """Return the functions that the host's server has."""
    return {
        name: one.of(host)
        for name, one in FUNCTIONS.items()
        if one.is_in_c is is_in_c and host.server_version >= one.since
    }
