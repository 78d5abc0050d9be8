"""Models without torch for replicas, written into a folder."""

from pathlib import Path

ECHO = """
import json, os
import numpy
import triton_python_backend_utils as pb_utils

NAMES = ("CUDA_VISIBLE_DEVICES", "KINDAWARE_CPU_SHARE", "OMP_NUM_THREADS")


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            if (x < 0).any():
                error = pb_utils.TritonError("negative", pb_utils.TritonError.INVALID_ARG)
                responses.append(pb_utils.InferenceResponse([], error))
                continue
            if (x == 1000).any():
                os.kill(os.getpid(), 9)
            told = {name: os.environ.get(name) for name in NAMES}
            told |= {"pid": os.getpid(), "parameters": json.loads(request.parameters())}
            with open(f"/proc/{os.getppid()}/cmdline") as command:
                told["server"] = command.read()
            tensors = [
                pb_utils.Tensor("Y", 2 * x),
                pb_utils.Tensor("TOLD", numpy.array([[json.dumps(told).encode()]] * len(x), dtype=object)),
            ]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
"""
ECHO_CONFIG = """
backend: "python"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [
  { name: "Y" data_type: TYPE_FP32 dims: [ 2 ] },
  { name: "TOLD" data_type: TYPE_STRING dims: [ 1 ] }
]
instance_group [ { kind: KIND_CPU } ]
"""
COUNT = '''
import time
import numpy
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Streams the numbers below N, or up to a cancellation; fails at 13."""

    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            number = int(pb_utils.get_input_tensor_by_name(request, "N").as_numpy()[0])
            for one in range(number):
                if request.is_cancelled():
                    break
                if one == 13:
                    sender.send(pb_utils.InferenceResponse([], pb_utils.TritonError("thirteen")))
                    break
                tensor = pb_utils.Tensor("ONE", numpy.array([one], dtype=numpy.int32))
                sender.send(pb_utils.InferenceResponse([tensor]))
                time.sleep(0.01)
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
'''
COUNT_CONFIG = """
backend: "python"
max_batch_size: 0
input [ { name: "N" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "ONE" data_type: TYPE_INT32 dims: [ 1 ] } ]
model_transaction_policy { decoupled: true }
instance_group [ { kind: KIND_CPU } ]
"""


def write_models(repository: Path, **models: tuple[str, str]) -> Path:
    """Write models, code and configuration by name, into a repository."""
    for name, (code, config) in models.items():
        version = repository / name / "1"
        version.mkdir(parents=True, exist_ok=True)
        (version / "model.py").write_text(code)
        (version.parent / "config.pbtxt").write_text(config)
    return repository
