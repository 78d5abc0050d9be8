"""`pb_utils.PreferredMemory` and the two kinds of memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kindaware.testing.stand_in.pybind.convert import to_instance, to_int64
from kindaware.testing.stand_in.pybind.enum import new_enum
from kindaware.testing.stand_in.pybind.pybind import Arg, method, named_as_server, pybind11_object
from kindaware.testing.stand_in.wire.wire import Answer

MemoryType = new_enum("MemoryType", ("TRITONSERVER_MEMORY_GPU", "TRITONSERVER_MEMORY_CPU"))
"""Where a tensor is. The numbers are the Python backend's; tritonserver.h has them the other way round."""

_CXX_NAME = "triton::backend::python::PreferredMemory::MemoryType"


@named_as_server
class PreferredMemory(pybind11_object):
    """Where the outputs of a BLS call are wanted; it has no getters."""

    __slots__ = ()

    @method(
        Arg("preferred_memory_type", _CXX_NAME, to_instance(MemoryType)),
        Arg("preferred_device_id", "int", to_int64, 0),
    )
    def __init__(self, preferred_memory_type: Any, preferred_device_id: int = 0) -> None:
        is_gpu = preferred_memory_type.name.endswith("GPU")
        self._kindaware = ("GPU" if is_gpu else "CPU", preferred_device_id)


def place_outputs(answer: Answer, preferred: tuple[str, int] | None) -> Answer:
    """Put the outputs of a call where they are wanted; a host without GPUs has them on the CPU."""
    if preferred is None or not answer.outputs:
        return answer
    kind, ordinal = preferred
    gpu = ordinal if kind == "GPU" and _has_gpu() else None
    return replace(answer, outputs=tuple(replace(wire, gpu=gpu) for wire in answer.outputs))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
