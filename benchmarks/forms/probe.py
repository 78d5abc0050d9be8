"""Times, inside the stub, one `execute` of a KindAwareModel beside the calls that none can do without.

Both get the same requests, in turns. The answer to every request has the times, in microseconds per call of
`execute`: FP32 [1, 2, sizes, repetitions], the KindAwareModel first. That is not the shape that config.pbtxt
declares, which is the KindAwareModel's; the server sends whatever a model answers.
"""

import gc
import json
import time

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from networks import OUTPUT

from kindaware import KindAwareModel


class Trivial(KindAwareModel):
    """A model whose forward costs nothing: it returns what it got."""

    def load(self):
        """There is nothing to load."""
        return

    def forward(self, X):
        """Return the batch."""
        return X


class TritonPythonModel:
    """Waits for a batch of the largest size, then times parts of it."""

    def initialize(self, args):
        """Read the sizes, and load the model that is timed."""
        parameters = json.loads(args["model_config"])["parameters"]
        self.sizes = [int(size) for size in parameters["sizes"]["string_value"].split(",")]
        self.repetitions = int(parameters["repetitions"]["string_value"])
        self.model = Trivial()
        self.model.initialize(args)
        self.rows = np.empty((max(self.sizes), 16), np.float32)

    def execute(self, requests):
        """Answer with the times, if the batch is whole."""
        if len(requests) != max(self.sizes):
            error = pb_utils.TritonError(f"{len(requests)} requests came together, not {max(self.sizes)}")
            return [pb_utils.InferenceResponse(error=error) for _ in requests]
        times = np.empty((1, 2, len(self.sizes), self.repetitions), np.float32)
        gc.collect()
        gc.disable()
        for repetition in range(self.repetitions):
            for place, size in enumerate(self.sizes):
                part = requests[:size]
                times[0, 0, place, repetition] = self.time(self.model.execute, part)
                times[0, 1, place, repetition] = self.time(self.bare, part)
        gc.enable()
        return [pb_utils.InferenceResponse([pb_utils.Tensor(OUTPUT, times)]) for _ in requests]

    def bare(self, requests):
        """Per request: inputs(), as_numpy, from_numpy, one row copied, Tensor, InferenceResponse."""
        rows = self.rows
        responses = []
        for position, request in enumerate(requests):
            array = request.inputs()[0].as_numpy()
            torch.from_numpy(array)
            rows[position] = array[0]
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor(OUTPUT, array)]))
        return responses

    def time(self, execute, requests):
        """One call in microseconds, after another of the same size; letting go of responses isn't counted."""
        execute(requests)
        started = time.perf_counter_ns()
        responses = execute(requests)
        ended = time.perf_counter_ns()
        del responses
        return (ended - started) / 1e3
