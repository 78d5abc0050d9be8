"""Stand-ins for the objects of `triton_python_backend_utils` that the adapter touches, and no more.

They keep the rules of the real ones where a breach would be silent there: positional arguments only, arrays
and DLPack producers told apart, error codes that are members of an enumeration and not text.
"""

import enum
import types

import numpy as np
import torch


class Tensor:
    """Stands for `pb_utils.Tensor`: an input of a request, or an output that the model made."""

    def __init__(self, name, array, /):
        if not isinstance(array, np.ndarray):
            raise TypeError("incompatible constructor arguments")
        if not array.flags.c_contiguous:
            raise AssertionError("the real one would copy here")
        self._name, self._array, self.made_by = name, array, "numpy"

    @classmethod
    def from_dlpack(cls, name, producer, /):
        """Take a tensor object; a capsule would not be synchronised, a strided one not be checked."""
        if not isinstance(producer, torch.Tensor) or not producer.is_contiguous():
            raise AssertionError("expected a contiguous tensor object")
        tensor = cls.__new__(cls)
        tensor._name, tensor._array, tensor.made_by = name, producer, "dlpack"
        return tensor

    def name(self):
        return self._name

    def as_numpy(self):
        if isinstance(self._array, np.ndarray):
            return self._array
        if self._array.dtype is torch.bfloat16:
            raise TypeError("Tensor dtype is BF16 and cannot be converted to NumPy.")
        return self._array.numpy()

    def is_cpu(self):
        return True

    def __dlpack__(self, stream=None):
        return torch.as_tensor(self._array).__dlpack__()

    def __dlpack_device__(self):
        return (1, 0)


class InferenceRequest:
    """Stands for a request as `execute` gets it."""

    def __init__(self, inputs, request_id="", requested=("Y",)):
        self._inputs, self._id, self._requested = inputs, request_id, requested

    def inputs(self):
        return list(self._inputs)

    def request_id(self):
        return self._id

    def is_cancelled(self):
        return False

    def requested_output_names(self):
        return set(self._requested)


class ErrorCode(enum.Enum):
    """The codes of `TritonError`; source: python_backend `pb_stub.cc`."""

    UNKNOWN = 0
    INTERNAL = 1
    NOT_FOUND = 2
    INVALID_ARG = 3
    UNAVAILABLE = 4
    UNSUPPORTED = 5
    ALREADY_EXISTS = 6
    CANCELLED = 7


class TritonError:
    """Stands for `pb_utils.TritonError`, which is no exception."""

    def __init__(self, text, code=ErrorCode.INTERNAL):
        if not isinstance(text, str) or not isinstance(code, ErrorCode):
            raise TypeError("incompatible constructor arguments")
        self.text, self.code = text, code


for _code in ErrorCode:
    setattr(TritonError, _code.name, _code)


class InferenceResponse:
    """Stands for `pb_utils.InferenceResponse`."""

    def __init__(self, output_tensors=(), error=None):
        if not isinstance(output_tensors, (list, tuple)) or not isinstance(error, (TritonError, type(None))):
            raise TypeError("incompatible constructor arguments")
        self.output_tensors, self.error = list(output_tensors), error


def make_module():
    """Make the module as it is once the stub has attached its classes; `log` collects what is logged."""
    module = types.ModuleType("triton_python_backend_utils")
    module.log = []

    class Logger:
        """Stands for `pb_utils.Logger`: static functions."""

    for name in ("log_error", "log_warn", "log_info", "log_verbose"):
        setattr(Logger, name, staticmethod(lambda text, name=name: module.log.append((name, text))))
    module.Logger = Logger

    class MetricFamily:
        """Stands for `pb_utils.MetricFamily`; nobody reads these."""

        COUNTER = 0

        def __init__(self, *, name, description, kind):
            self.name = name

    module.MetricFamily = MetricFamily
    for one in (Tensor, InferenceRequest, InferenceResponse, TritonError):
        setattr(module, one.__name__, one)
    return module


class ModelConfig:
    """Stands for `pb_utils.ModelConfig`; rules and texts as in triton_python_backend_utils.py."""

    def __init__(self, config):
        self._model_config = config

    def as_dict(self):
        return self._model_config

    def set_max_batch_size(self, size):
        current = self._model_config["max_batch_size"]
        if current > size:
            raise ValueError(
                f"configuration specified max_batch_size {current}, but in auto-complete-config function for "
                f"model '{self._model_config['name']}' specified max_batch_size {size}"
            )
        self._model_config["max_batch_size"] = size

    def set_dynamic_batching(self):
        for other in ("sequence_batching", "ensemble_scheduling"):
            if other in self._model_config:
                raise ValueError(f"Configuration specified scheduling_choice as '{other}'")
        self._model_config.setdefault("dynamic_batching", {})

    def set_model_transaction_policy(self, policy):
        known = self._model_config.setdefault("model_transaction_policy", policy)
        if known != policy:
            raise ValueError("trying to change decoupled property in auto-complete-config")

    def add_input(self, tensor):
        self._add("input", tensor, {"name", "data_type", "dims", "optional"})

    def add_output(self, tensor):
        self._add("output", tensor, {"name", "data_type", "dims"})

    def _add(self, key, tensor, allowed):
        if not set(tensor) <= allowed:
            raise ValueError(f"{key} contains property other than {sorted(allowed)}")
        if missing := {"name", "data_type", "dims"} - set(tensor):
            raise ValueError(f"{key} is missing {sorted(missing)} property")
        for known in self._model_config[key]:
            if known["name"] == tensor["name"]:
                self._merge(known, tensor)
                return
        self._model_config[key].append(tensor)

    def _merge(self, known, tensor):
        if known.get("data_type", "TYPE_INVALID") not in ("TYPE_INVALID", tensor["data_type"]):
            raise ValueError(
                f"configuration expects datatype {known['data_type']}, model provides {tensor['data_type']}"
            )
        if known.get("dims") and known["dims"] != tensor["dims"]:
            raise ValueError(
                f"the model expects dims {tensor['dims']} but the model configuration {known['dims']}"
            )
        if "optional" in known and "optional" in tensor and known["optional"] != tensor["optional"]:
            raise ValueError("optional differs")
        known.update(tensor)
