"""The network behind LitServe, with the tensor's bytes as bodies instead of JSON.

No `from __future__ import annotations`: LitServe reads the types of `decode_request` as objects.
"""

import sys
from typing import Annotated

import litserve
import numpy as np
import torch
from fastapi import Body, Response

from benchmarks.networks import NETWORKS
from benchmarks.servers.repository import MAX_BATCH_SIZE

_NUMPY = {"FP32": np.float32, "INT64": np.int64}


class NetworkApi(litserve.LitAPI):
    """One network, whose rows LitServe joins and takes apart."""

    def setup(self, device: str) -> None:
        """Make the network in the worker."""
        self.net = self.network.build()

    def decode_request(self, request: Annotated[bytes, Body()]) -> np.ndarray:
        """Take a body for the values of one row."""
        values = np.frombuffer(request, _NUMPY[self.network.input_type])
        return values.reshape(self.network.input_shape)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Compute one batch."""
        with torch.inference_mode():
            return self.net(torch.from_numpy(x)).numpy()

    def encode_response(self, output: np.ndarray) -> Response:
        """Answer with the row's bytes."""
        return Response(output.tobytes(), media_type="application/octet-stream")


def main(network: str, http_port: str) -> None:
    """Serve one network at `/predict`, until the process is ended."""
    api = NetworkApi(max_batch_size=MAX_BATCH_SIZE, batch_timeout=0.0)
    api.network = NETWORKS[network]
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=int(http_port), generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
