"""The network behind PyTriton, which starts a tritonserver of its own and computes in this process."""

from __future__ import annotations

import sys

import numpy as np
import torch
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.networks import INPUT, NETWORKS, OUTPUT
from benchmarks.servers.repository import MAX_BATCH_SIZE

_NUMPY = {"FP32": np.float32, "INT64": np.int64}


def main(name: str, *ports: str) -> None:
    """Serve one network as the model of its name, until the process is ended."""
    network = NETWORKS[name]
    net = network.build()

    @batch
    def infer(**inputs: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [net(torch.from_numpy(inputs[INPUT])).numpy()]

    options: dict[str, str | int] = {}
    for part, port in zip(("http", "grpc", "metrics"), ports, strict=True):
        options |= {f"{part}_address": "127.0.0.1", f"{part}_port": int(port)}
    with Triton(config=TritonConfig(**options)) as triton:
        triton.bind(
            model_name=name,
            infer_func=infer,
            inputs=[Tensor(name=INPUT, dtype=_NUMPY[network.input_type], shape=network.input_shape)],
            outputs=[Tensor(name=OUTPUT, dtype=np.float32, shape=network.output_shape)],
            config=ModelConfig(max_batch_size=MAX_BATCH_SIZE, batcher=DynamicBatcher()),
        )
        triton.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
