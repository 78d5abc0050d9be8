"""Takes one error for a fault of its device, and notes in a file how often it was loaded."""

import os

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        # The CPU never fails for good, so its runtime is told that it has.
        self._kindaware_instance.runtime.is_fault = lambda error: "CUDA error" in str(error)
        with open(os.environ["BRITTLE_LOADS"], "a") as loads:
            loads.write(f"{os.getpid()}\n")

    def forward(self, INPUT):
        if (INPUT < 0).any():
            raise RuntimeError("CUDA error: device-side assert triggered")
        return 2 * INPUT
