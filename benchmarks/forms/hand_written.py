"""The best that one writes by hand for one model: it checks nothing, and one bad request fails all.

Threads, precision and memory format are those that suit the model and the machine, as in the other forms.
"""

import json
import os

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from networks import NETWORKS, OUTPUT


class TritonPythonModel:
    """One forward per call of `execute`, the answers slices of its output."""

    def initialize(self, args):
        """Make the network as the parameters want it, with the cores divided among the instances."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        instances = config["instance_group"][0]["count"]
        num_threads = parameters.get("kindaware.num_threads")
        torch.set_num_threads(int(num_threads or max(1, len(os.sched_getaffinity(0)) // instances)))
        self.dtype = torch.bfloat16 if parameters.get("kindaware.precision") == "bf16-true" else None
        self.channels_last = parameters.get("kindaware.memory_format") == "channels_last"
        self.net = NETWORKS[parameters["network"]].build()
        if self.dtype is not None:
            self.net.to(self.dtype)
        if self.channels_last:
            self.net.to(memory_format=torch.channels_last)

    def execute(self, requests):
        """Answer all requests with one forward."""
        arrays = [request.inputs()[0].as_numpy() for request in requests]
        rows = torch.from_numpy(np.concatenate(arrays) if len(arrays) > 1 else arrays[0])
        with torch.inference_mode():
            if self.dtype is not None:
                rows = rows.to(self.dtype)
            if self.channels_last:
                rows = rows.contiguous(memory_format=torch.channels_last)
            output = self.net(rows)
            if self.dtype is not None:
                output = output.float()
        answers = output.numpy()
        responses = []
        start = 0
        for array in arrays:
            stop = start + len(array)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor(OUTPUT, answers[start:stop])]))
            start = stop
        return responses
