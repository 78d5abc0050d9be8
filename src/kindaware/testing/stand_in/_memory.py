"""`pb_utils.PreferredMemory` and the two kinds of memory."""

from __future__ import annotations

from typing import Any

from kindaware.testing.stand_in._convert import to_instance, to_int64
from kindaware.testing.stand_in._enum import new_enum
from kindaware.testing.stand_in._pybind import Arg, method, named_as_server, pybind11_object

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
        self._kindaware = (preferred_memory_type, preferred_device_id)
