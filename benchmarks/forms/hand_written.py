"""The best that one writes by hand for one model: it checks nothing, and one bad request fails all.

Threads, precision, memory format and compilation are those that suit the model and the machine, as in the
other forms; the process keeps the memory of a forward.
"""

import ctypes
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
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX, M_TRIM_THRESHOLD: nothing goes back to the system
        libc.mallopt(-1, -1)
        os.environ["THP_MEM_ALLOC_ENABLE"] = "1"
        torch.set_num_threads(int(num_threads or max(1, len(os.sched_getaffinity(0)) // instances)))
        self.dtype = torch.bfloat16 if parameters.get("kindaware.precision") == "bf16-true" else None
        self.channels_last = parameters.get("kindaware.memory_format") == "channels_last"
        self.net = NETWORKS[parameters["network"]].build()
        if self.dtype is not None:
            self.net.to(self.dtype)
        if self.channels_last:
            self.net.to(memory_format=torch.channels_last)
        if parameters.get("kindaware.compile"):
            self.compile(NETWORKS[parameters["network"]])

    def compile(self, network):
        """Compile with frozen weights, for one row and for any number of them."""
        import torch._inductor.config

        torch._inductor.config.freezing = True
        self.net = torch.compile(self.net)
        for num_rows in (1, 2, 3):
            rows = network.sample(num_rows).to(self.dtype or torch.float32)
            layout = torch.channels_last if self.channels_last else torch.contiguous_format
            with torch.inference_mode():
                self.net(rows.contiguous(memory_format=layout))

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
