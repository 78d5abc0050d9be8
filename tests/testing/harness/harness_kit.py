"""Models without torch, and the same requests sent to a harness and to a real server."""

import contextlib
import queue
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from kindaware.testing import InferenceError, ModelHarness

IO = """
input { name: "X" data_type: TYPE_FP32 dims: -1 }
output { name: "Y" data_type: TYPE_FP32 dims: -1 }
"""

PLAIN = 'backend: "python"' + IO
BATCHED = PLAIN + "max_batch_size: 8 dynamic_batching { }"
DECOUPLED = PLAIN + "model_transaction_policy { decoupled: true }"

HEAD = """
import json, threading, time, asyncio
import numpy as np
import triton_python_backend_utils as pb_utils

def get(request, name="X"):
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()

def answer(array, name="Y"):
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, np.asarray(array, np.float32))])

"""

ECHO = """
class TritonPythonModel:
    def execute(self, requests):
        return [answer(get(request)) for request in requests]
"""

CODES = {
    "UNKNOWN": "UNKNOWN",
    "INTERNAL": "INTERNAL",
    "NOT_FOUND": "NOT_FOUND",
    "INVALID_ARGUMENT": "INVALID_ARG",
    "UNAVAILABLE": "UNAVAILABLE",
    "UNIMPLEMENTED": "UNSUPPORTED",
    "ALREADY_EXISTS": "ALREADY_EXISTS",
    "CANCELLED": "CANCELLED",
}


def write_model(folder, name="model", source=ECHO, config=PLAIN, version="1"):
    """Write a model; its source starts with the imports and helpers of HEAD unless it begins with '#'."""
    place = Path(folder, name, version)
    place.mkdir(parents=True, exist_ok=True)
    source = textwrap.dedent(source)
    (place / "model.py").write_text(source if source.startswith("#") else HEAD + source)
    (place.parent / "config.pbtxt").write_text(config)
    return place.parent


def floats(*shape, start=1.0):
    return (np.arange(int(np.prod(shape)), dtype=np.float32) + start).reshape(shape)


@dataclass(frozen=True)
class Result:
    """What a client saw of one response: arrays as (type, shape, bytes), or code and text."""

    outputs: dict[str, Any] = field(default_factory=dict)
    code: str = ""
    text: str = ""


def outcome_of(result):
    if result.error is not None:
        return Result(code=result.error.code().name, text=result.error.message())
    return Result({name: raw(array) for name, array in sorted(result.outputs.items())})


def raw(array):
    if array.dtype == object:
        return "object", array.shape, array.ravel().tolist()
    return str(array.dtype), array.shape, array.tobytes()


class ServerClient:
    """Sends to a real server what `ModelHarness.infer` and `stream` take."""

    def __init__(self, url):
        self.grpc = grpcclient.InferenceServerClient(url)

    def infer(self, model, inputs, requested_outputs=None, **options):
        try:
            result = self.grpc.infer(
                model,
                [pack(name, array) for name, array in inputs.items()],
                outputs=wanted(requested_outputs),
                client_timeout=30,
                **for_client(options),
            )
        except InferenceServerException as error:
            return failed(error)
        return unpacked(result)

    def stream(self, model, inputs, requested_outputs=None, **options):
        answers = queue.Queue()
        self.grpc.start_stream(lambda result, error: answers.put((result, error)))
        self.grpc.async_stream_infer(
            model,
            [pack(name, array) for name, array in inputs.items()],
            outputs=wanted(requested_outputs),
            enable_empty_final_response=True,
            **for_client(options),
        )
        found = []
        with contextlib.suppress(queue.Empty):  # an error may or may not be the last, and one has no end
            while True:
                silence = 30 if not found else 0.5 if found[-1].text else 5
                result, error = answers.get(timeout=silence)
                if error is not None:
                    found.append(failed(error))
                    continue
                is_final = result.get_response().parameters["triton_final_response"].bool_param
                if not is_final or result.get_response().outputs:
                    found.append(unpacked(result))
                if is_final:
                    break
        self.grpc.stop_stream()
        return found


def pack(name, array):
    tensor = grpcclient.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    return tensor.set_data_from_numpy(array)


def wanted(names):
    return None if names is None else [grpcclient.InferRequestedOutput(name) for name in names]


def for_client(options):
    renamed = dict(options)
    flags = renamed.pop("flags", 0)
    renamed["sequence_id"] = renamed.pop("correlation_id", 0)
    return {**renamed, "sequence_start": bool(flags & 1), "sequence_end": bool(flags & 2)}


def failed(error):
    name = (error.status() or "").removeprefix("StatusCode.")
    return Result(code=CODES.get(name, name), text=error.message())


def unpacked(result):
    names = sorted(output.name for output in result.get_response().outputs)
    return Result({name: raw(result.as_numpy(name)) for name in names})


def infer_in_harness(directory, requests, **options):
    """The outcomes of requests to a harness of their own."""
    with ModelHarness(directory, raise_errors=False, **options) as model:
        return [outcome_of(model.infer(**request)) for request in requests]


def stream_in_harness(directory, requests, **options):
    with ModelHarness(directory, raise_errors=False, **options) as model:
        return [[outcome_of(result) for result in model.stream(**request)] for request in requests]


__all__ = [
    "BATCHED",
    "DECOUPLED",
    "ECHO",
    "HEAD",
    "IO",
    "PLAIN",
    "InferenceError",
    "ModelHarness",
    "Result",
    "ServerClient",
    "floats",
    "infer_in_harness",
    "outcome_of",
    "stream_in_harness",
    "write_model",
]
