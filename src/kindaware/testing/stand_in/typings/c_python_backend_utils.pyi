"""Types of the C++ half of Triton's module, which is built into the stub; never imported.

It has the classes that `triton_python_backend_utils` takes from it, and those that have no name there.
"""

from typing import Final, TypeAlias

import triton_python_backend_utils as _pb_utils
from triton_python_backend_utils import TRITONSERVER_MEMORY_CPU as TRITONSERVER_MEMORY_CPU
from triton_python_backend_utils import TRITONSERVER_MEMORY_GPU as TRITONSERVER_MEMORY_GPU
from triton_python_backend_utils import InferenceRequest as InferenceRequest
from triton_python_backend_utils import InferenceResponse as InferenceResponse
from triton_python_backend_utils import Logger as Logger
from triton_python_backend_utils import MetricFamily as MetricFamily
from triton_python_backend_utils import PreferredMemory as PreferredMemory
from triton_python_backend_utils import Tensor as Tensor
from triton_python_backend_utils import TritonError as TritonError
from triton_python_backend_utils import TritonModelException as TritonModelException
from triton_python_backend_utils import is_model_ready as is_model_ready
from triton_python_backend_utils import load_model as load_model
from triton_python_backend_utils import unload_model as unload_model

InferenceResponseSender: TypeAlias = _pb_utils._InferenceResponseSender
InferenceTrace: TypeAlias = _pb_utils._InferenceTrace
MemoryType: TypeAlias = _pb_utils._MemoryType
Metric: TypeAlias = _pb_utils._Metric
MetricKind: TypeAlias = _pb_utils._MetricKind
ResponseIterator: TypeAlias = _pb_utils._ResponseIterator

COUNTER: Final[MetricKind]
GAUGE: Final[MetricKind]
HISTOGRAM: Final[MetricKind]

class SharedMemory:
    def free_memory(self) -> int: ...

shared_memory: Final[SharedMemory]  # attached after the import of model.py
