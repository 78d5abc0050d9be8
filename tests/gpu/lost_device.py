"""A program that loses its GPU: run by test_gpu_lost_device.py in a process of its own, which ends with it.

Its only argument says whether the GPU is `cuda` or `simulated`. It prints what it saw as JSON.
"""

import json
import sys

import torch
from gpu_kit import Gpu, Stopwatch, config_of, delay

from kindaware import KindAwareModel, TensorSpec


class Lookup(KindAwareModel):
    """Looks rows up in a table; a kernel checks the number of the row on the device."""

    inputs = [TensorSpec("ROW", "INT64", [1])]
    outputs = [TensorSpec("Y", "FP32", [4])]

    def load(self):
        self.num_forwards = 0
        return torch.nn.Embedding(8, 4)

    def forward(self, ROW):
        self.num_forwards += 1
        delay(ROW)
        return self.model(ROW[:, 0])

    def unload(self):
        self.logger.info("unloaded")


def codes(results):
    return ["" if one.error is None else one.error.code().name for one in results]


def main(kind):
    gpu = Gpu(is_simulated=kind == "simulated")
    seen = {}
    with gpu.harness(Lookup, raise_errors=False, config=config_of(8)) as model:
        seen["good"] = codes(model.infer_batch([{"ROW": [[1]]}, {"ROW": [[7]]}]))
        seen["ready_before"] = model.instance.is_ready()
        lost = model.infer_batch([{"ROW": [[1]]}, {"ROW": [[1000]]}])
        seen["lost"] = codes(lost)
        seen["text"] = lost[0].error.message()
        seen["ready_after"] = model.instance.is_ready()
        num_forwards = model.instance.num_forwards
        with Stopwatch() as stopwatch:
            seen["later"] = codes(model.infer_batch([{"ROW": [[1]]}, {"ROW": [[2]]}]))
        seen["later_seconds"] = stopwatch.seconds
        seen["later_forwards"] = model.instance.num_forwards - num_forwards
    seen["log"] = model.log_text()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1])
