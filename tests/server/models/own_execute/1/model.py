"""Keeps its own execute and takes strings; only placement and threads come from the library."""

import numpy as np
import torch
import triton_python_backend_utils as pb_utils

from kindaware import DevicePlacement


class TritonPythonModel(DevicePlacement):
    def execute(self, requests):
        said = f"{self.device} {self.args.kind} {torch.get_num_threads()}"
        answer = np.array([said.encode()], dtype=object)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("SAID", answer)]) for _ in requests]
