"""The least of Triton's module that an instance needs, so that a figure has its time and nobody else's.

A request holds arrays that are there already, as in the server, whose stub has copied them to numpy before
the model sees them. Making a response costs an object. No figure has anything of what the server's process
does.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks.networks import INPUT, OUTPUT, Network

Array = np.ndarray[Any, Any]


class _Tensor:
    __slots__ = ("_array", "_name")

    def __init__(self, name: str, array: Array) -> None:
        self._name = name
        self._array = array

    @classmethod
    def from_dlpack(cls, name: str, tensor: torch.Tensor) -> _Tensor:
        return cls(name, tensor.numpy())

    def name(self) -> str:
        return self._name

    def is_cpu(self) -> bool:
        return True

    def as_numpy(self) -> Array:
        return self._array


class _Request:
    """One input; it asks for the one output. `sender` gets what is sent beside `execute`."""

    __slots__ = ("_inputs", "sender")
    _wanted = (OUTPUT,)

    def __init__(self, array: Array) -> None:
        self._inputs = [_Tensor(INPUT, array)]
        self.sender = _Sender()

    def get_response_sender(self) -> _Sender:
        # A request is sent again and again, in a server it would be another one.
        self.sender = _Sender()
        return self.sender

    def inputs(self) -> list[_Tensor]:
        return self._inputs

    def request_id(self) -> str:
        return ""

    def is_cancelled(self) -> bool:
        return False

    def requested_output_names(self) -> Sequence[str]:
        return self._wanted


class _TritonError:
    UNKNOWN = INTERNAL = NOT_FOUND = INVALID_ARG = UNAVAILABLE = UNSUPPORTED = CANCELLED = None

    def __init__(self, text: str, code: None = None) -> None:
        self.text = text


class _InferenceResponse:
    __slots__ = ("error", "outputs")

    def __init__(self, output_tensors: Sequence[_Tensor] = (), error: _TritonError | None = None) -> None:
        self.outputs = output_tensors
        self.error = error

    def array(self) -> Array:
        if self.error is not None:
            raise RuntimeError(f"response: expected an output, got {self.error.text}; see the log")
        return self.outputs[0].as_numpy()


class _Sender:
    """Takes the one response to a request."""

    __slots__ = ("_is_sent", "_response")

    def __init__(self) -> None:
        self._is_sent = threading.Event()

    def send(self, response: _InferenceResponse, flags: int = 0) -> None:
        self._response = response
        self._is_sent.set()

    def array(self) -> Array:
        if not self._is_sent.wait(60.0):
            raise RuntimeError("response: expected one within 60 s, got none; see the log")
        return self._response.array()


class _MetricFamily:
    """Takes counts, and forgets them; it is its own metric."""

    COUNTER = GAUGE = HISTOGRAM = None

    def __init__(self, **described: object) -> None: ...

    def Metric(self, **labelled: object) -> _MetricFamily:  # noqa: N802 - Triton's name
        return self

    def increment(self, value: float) -> None: ...


class _Logger:
    """Warnings and errors are shown."""

    log_info = log_verbose = staticmethod(lambda text: None)
    log_warn = log_error = staticmethod(lambda text: print(text, file=sys.stderr))


@contextlib.contextmanager
def stand_in() -> Iterator[None]:
    """Put the module where an instance looks for it, until the block is left."""
    module = ModuleType("triton_python_backend_utils")
    for one in (_Tensor, _InferenceResponse, _TritonError, _Logger, _MetricFamily):
        setattr(module, one.__name__[1:], one)
    before = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        del sys.modules[module.__name__]
        if before is not None:
            sys.modules[module.__name__] = before


@dataclass(frozen=True, eq=False)
class Batch:
    """What one call of `execute` gets: requests of one row each.

    Attributes:
        arrays: the rows, [1, ...] each, in memory of their own.
        requests: with these rows.
    """

    arrays: list[Array]
    requests: list[_Request]

    @classmethod
    def of(cls, network: Network, num_rows: int, seed: int) -> Batch:
        """Make random rows that differ enough for a row's answer to be told from another's."""
        rows = network.sample(num_rows, seed)
        if rows.is_floating_point():
            rows *= torch.arange(1, num_rows + 1).remainder(7).add(1).div(4).view(-1, *[1] * (rows.dim() - 1))
        arrays = [row.numpy().copy() for row in rows.split(1)]
        return cls(arrays, [_Request(array) for array in arrays])


def instance_args(network: Network, settings: Mapping[str, str], max_rows: int) -> dict[str, str]:
    """Return the dict that `initialize` gets for an instance on the first GPU."""
    rows = {"name": INPUT, "data_type": f"TYPE_{network.input_type}", "dims": network.input_shape}
    config = {
        "name": "benchmark",
        "backend": "python",
        "max_batch_size": max_rows,
        "input": [rows],
        "output": [{"name": OUTPUT, "data_type": "TYPE_FP32", "dims": network.output_shape}],
        "instance_group": [{"name": "benchmark_0", "kind": "KIND_GPU", "count": 1, "gpus": [0]}],
        "parameters": {f"kindaware.{name}": {"string_value": value} for name, value in settings.items()},
    }
    return {
        "model_config": json.dumps(config),
        "model_instance_kind": "GPU",
        "model_instance_name": "benchmark_0_0",
        "model_instance_device_id": "0",
        "model_repository": "/models/benchmark",
        "model_version": "1",
        "model_name": "benchmark",
    }
