"""The least of Triton's module that an instance needs, so that a figure has its time and nobody else's.

A request holds arrays that are there already, as in the server, whose stub has copied them to numpy before
the model sees them. Making a response costs an object. No figure has
anything of what the server's process does.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks.networks import INPUT, OUTPUT, Network

_PB_UTILS = "triton_python_backend_utils"
_CODES = ("UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG", "UNAVAILABLE", "UNSUPPORTED", "CANCELLED")


class Tensor:
    """A named array on the host."""

    __slots__ = ("_array", "_name")

    def __init__(self, name: str, array: np.ndarray[Any, Any]) -> None:
        self._name = name
        self._array = array

    @classmethod
    def from_dlpack(cls, name: str, tensor: torch.Tensor) -> Tensor:
        """Take a tensor of the host."""
        return cls(name, tensor.numpy())

    def name(self) -> str:
        """Give the name."""
        return self._name

    def is_cpu(self) -> bool:
        """Say yes."""
        return True

    def as_numpy(self) -> np.ndarray[Any, Any]:
        """Give the array."""
        return self._array


class Request:
    """A request with one input, which asks for the one output."""

    __slots__ = ("_inputs",)
    _wanted = (OUTPUT,)

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._inputs = [Tensor(INPUT, array)]

    def inputs(self) -> list[Tensor]:
        """Give the inputs."""
        return self._inputs

    def request_id(self) -> str:
        """Give none."""
        return ""

    def is_cancelled(self) -> bool:
        """Say no."""
        return False

    def requested_output_names(self) -> Sequence[str]:
        """Name the output."""
        return self._wanted


class TritonError:
    """An error of a response."""

    def __init__(self, text: str, code: str = "INTERNAL") -> None:
        self.text = text
        self.code = code


for _code in _CODES:
    setattr(TritonError, _code, _code)


class InferenceResponse:
    """A response, with outputs or an error."""

    __slots__ = ("error", "outputs")

    def __init__(self, output_tensors: Sequence[Tensor] = (), error: TritonError | None = None) -> None:
        self.outputs = output_tensors
        self.error = error

    def array(self) -> np.ndarray[Any, Any]:
        """Give the output, in memory that the next call may use again.

        Raises:
            RuntimeError: the request failed.
        """
        if self.error is not None:
            raise RuntimeError(f"response: expected an output, got {self.error.text}; see the log")
        return self.outputs[0].as_numpy()


class MetricFamily:
    """Takes counts, and forgets them."""

    COUNTER = GAUGE = HISTOGRAM = None

    def __init__(self, **described: object) -> None:
        """Take what the metrics are."""

    def Metric(self, **labelled: object) -> MetricFamily:  # noqa: N802 - Triton's name
        """Give itself for one of its metrics."""
        return self

    def increment(self, value: float) -> None:
        """Forget the value."""


class Logger:
    """Where an instance logs: warnings and errors are shown."""

    log_info = log_verbose = staticmethod(lambda text: None)
    log_warn = log_error = staticmethod(lambda text: print(text, file=sys.stderr))


@dataclass(frozen=True)
class Batch:
    """What one call of `execute` gets: requests of one row each.

    Attributes:
        arrays: the rows, [1, ...] each, in memory of their own.
        requests: with these rows.
    """

    arrays: list[np.ndarray[Any, Any]]
    requests: list[Request]

    @classmethod
    def of(cls, network: Network, num_rows: int, seed: int) -> Batch:
        """Make random rows that differ enough for a row's answer to be told from another's."""
        rows = network.sample(num_rows, seed)
        if rows.is_floating_point():
            rows *= torch.arange(1, num_rows + 1).remainder(7).add(1).div(4).view(-1, *[1] * (rows.dim() - 1))
        arrays = [row.numpy().copy() for row in rows.split(1)]
        return cls(arrays, [Request(array) for array in arrays])


@contextlib.contextmanager
def stand_in() -> Iterator[None]:
    """Put the module where an instance looks for it, until the block is left."""
    module = ModuleType(_PB_UTILS)
    for one in (Tensor, InferenceResponse, TritonError, Logger, MetricFamily):
        setattr(module, one.__name__, one)
    before = sys.modules.get(_PB_UTILS)
    sys.modules[_PB_UTILS] = module
    try:
        yield
    finally:
        del sys.modules[_PB_UTILS]
        if before is not None:
            sys.modules[_PB_UTILS] = before


def instance_args(network: Network, settings: Mapping[str, str], max_rows: int) -> dict[str, str]:
    """Make the dict that `initialize` gets for an instance on the first GPU."""
    config = {
        "name": "benchmark",
        "backend": "python",
        "max_batch_size": max_rows,
        "input": [
            {"name": INPUT, "data_type": f"TYPE_{network.input_type}", "dims": list(network.input_shape)}
        ],
        "output": [{"name": OUTPUT, "data_type": "TYPE_FP32", "dims": list(network.output_shape)}],
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
