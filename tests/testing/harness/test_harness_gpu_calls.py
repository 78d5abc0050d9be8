"""Calls of other models with tensors in the memory of a GPU."""

import numpy as np
import pytest
from harness_kit import PLAIN, write_model

from kindaware.testing import ModelHarness

CALLEE = """
import numpy as np
import torch
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "X")
            where = "cpu" if tensor.is_cpu() else "cuda:0"
            value = torch.full((1,), float(not tensor.is_cpu()), device=where)
            torch.cuda.synchronize()
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("Y", value)]))
        return answers
"""
CALLER = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            options = {options}
            answer = pb_utils.InferenceRequest(
                inputs=request.inputs(), requested_output_names=["Y"], model_name="callee", **options
            ).exec()
            found = answer.output_tensors()[0]
            place = np.array([float(found.is_cpu())], np.float32)
            if not found.is_cpu():
                try:
                    found.as_numpy()
                except pb_utils.TritonModelException as error:
                    assert "stored in GPU" in str(error)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", place)]))
        return answers
"""
KEEP = 'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "no" } }\n'
PREFERRED = "dict(preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_{}, 0))"


def run(folder, options, callee_keeps):
    places = [
        write_model(folder, "caller", CALLER.replace("{options}", options), PLAIN + KEEP),
        write_model(folder, "callee", CALLEE, PLAIN + (KEEP if callee_keeps else "")),
    ]
    options = {"kind": "GPU", "accelerator": "simulated", "models": [places[1]]}
    with ModelHarness(places[0], **options) as harness:
        result = harness.infer(X=np.ones(1, np.float32), input_device="cuda:0")
        return bool(result.outputs["Y"][0])


@pytest.mark.parametrize(
    ("options", "callee_keeps", "is_on_cpu"),
    [
        ("{}", True, False),
        ("{}", False, True),
        (PREFERRED.format("CPU"), True, True),
        (PREFERRED.format("GPU"), False, False),
    ],
    ids=["the callee's choice", "callee on the CPU", "wanted on the CPU", "wanted on the GPU"],
)
def test_outputs_of_a_call_lie_where_they_are_wanted(tmp_path, options, callee_keeps, is_on_cpu):
    assert run(tmp_path, options, callee_keeps) is is_on_cpu
