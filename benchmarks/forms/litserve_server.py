"""The network behind LitServe, with the tensor's bytes as bodies instead of JSON.

No `from __future__ import annotations`: LitServe reads the types of `decode_request` as objects.
"""

import argparse
from typing import Annotated

import litserve
import numpy as np
import torch
from fastapi import Body, Response

from benchmarks.networks import NETWORKS

_NUMPY = {"FP32": np.float32, "INT64": np.int64}


class NetworkApi(litserve.LitAPI):
    """One network, batched by LitServe.

    Args:
        name: of the network.
        max_batch_size: requests that are computed together.
    """

    def __init__(self, name: str, max_batch_size: int) -> None:
        super().__init__(max_batch_size=max_batch_size, batch_timeout=0.0)
        self.name = name

    def setup(self, device: str) -> None:
        """Make the network in the worker."""
        self.network = NETWORKS[self.name]
        self.net = self.network.build()

    def decode_request(self, request: Annotated[bytes, Body()]) -> np.ndarray:
        """Take a body for the values of one row."""
        values = np.frombuffer(request, _NUMPY[self.network.input_type])
        return values.reshape(self.network.input_shape)

    def batch(self, inputs: list[np.ndarray]) -> torch.Tensor:
        """Join the rows."""
        return torch.from_numpy(np.stack(inputs))

    def predict(self, x: torch.Tensor) -> np.ndarray:
        """Compute one batch."""
        with torch.inference_mode():
            return self.net(x).numpy()

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """Take the rows apart."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> Response:
        """Answer with the row's bytes."""
        return Response(output.tobytes(), media_type="application/octet-stream")


def main() -> None:
    """Serve one network at `/predict`, until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--max-batch-size", type=int, required=True)
    args = parser.parse_args()
    api = NetworkApi(args.network, args.max_batch_size)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=args.http_port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
