"""The network behind PyTriton, which starts a tritonserver of its own and computes in this process."""

from __future__ import annotations

import argparse

import numpy as np
import torch
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.networks import INPUT, NETWORKS, OUTPUT

_NUMPY = {"FP32": np.float32, "INT64": np.int64}


def main() -> None:
    """Serve one network as the model of its name, until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, required=True)
    parser.add_argument("--max-batch-size", type=int, required=True)
    args = parser.parse_args()
    network = NETWORKS[args.network]
    net = network.build()

    @batch
    def infer(**inputs: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [net(torch.from_numpy(inputs[INPUT])).numpy()]

    address = "127.0.0.1"
    config = TritonConfig(
        http_address=address,
        grpc_address=address,
        metrics_address=address,
        http_port=args.http_port,
        grpc_port=args.grpc_port,
        metrics_port=args.metrics_port,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name=args.network,
            infer_func=infer,
            inputs=[Tensor(name=INPUT, dtype=_NUMPY[network.input_type], shape=network.input_shape)],
            outputs=[Tensor(name=OUTPUT, dtype=np.float32, shape=network.output_shape)],
            config=ModelConfig(max_batch_size=args.max_batch_size, batcher=DynamicBatcher()),
        )
        triton.serve()


if __name__ == "__main__":
    main()
