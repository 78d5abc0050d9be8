"""What is compared on a GPU: functions that compute a batch of requests, and may return before it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.stand_in import Array, Batch, instance_args
from benchmarks.networks import Network
from kindaware import KindAwareModel

DEVICE = "cuda:0"
NUM_BATCHES = 4
"""How many batches take turns, so that none is in a cache because it was the last."""

Compute = Callable[[Batch], Any]


def bare_forward(network: Network, *, is_bf16: bool) -> Compute:
    """Compute on inputs that are on the device already: nothing that is served can be faster.

    Args:
        network: what is computed.
        is_bf16: in bf16, and pictures in channels_last; else as it is.
    """
    dtype = torch.bfloat16 if is_bf16 else torch.float32
    layout = torch.channels_last if is_bf16 and network.is_picture else torch.contiguous_format
    net = network.build().to(DEVICE, dtype=dtype).to(memory_format=layout)

    @lru_cache(NUM_BATCHES)
    def on_device(batch: Batch) -> torch.Tensor:
        rows = torch.from_numpy(np.concatenate(batch.arrays)).to(DEVICE)
        return rows.to(dtype, memory_format=layout) if rows.is_floating_point() else rows

    @torch.inference_mode()
    def compute(batch: Batch) -> Any:
        return net(on_device(batch))

    return compute


def per_request_loop(network: Network) -> Compute:
    """Compute as the official example of instance kinds does it: a forward per request, in full precision.

    The server copies each answer to the host after `execute` has returned; here that is done at the end.
    """
    net = network.build().to(DEVICE)

    @torch.no_grad()
    def compute(batch: Batch) -> list[torch.Tensor]:
        inputs = (request.inputs()[0].as_numpy() for request in batch.requests)
        answers = [net(torch.as_tensor(array, device=DEVICE)) for array in inputs]
        return [answer.cpu() for answer in answers]

    return compute


def kindaware_model(name: str, network: Network, sizes: Sequence[int]) -> Compute:
    """Compute with a KindAwareModel, from the requests' arrays to the responses' arrays.

    Args:
        name: has `bf16`, `compiled`, `graphs` and `overlapping` in it where those are its settings.
        network: what is computed.
        sizes: rows of the batches that it will get.

    Raises:
        ConfigError: it can't be loaded with these settings.
    """
    settings = {"warmup": ",".join(map(str, sizes))}
    if "bf16" in name:
        settings["precision"] = "bf16-true"
        if network.is_picture:
            settings["memory_format"] = "channels_last"
    if "graphs" in name:
        settings["cuda_graphs"] = settings["warmup"]
    if "compiled" in name:
        settings["compile"] = "default"
    if "overlapping" in name:
        settings["overlap_calls"] = "true"

    class Model(KindAwareModel):
        """The network, and nothing else."""

        def load(self) -> torch.nn.Module:
            return network.build()

        def forward(self, X: torch.Tensor) -> Any:  # noqa: N803 - the input's name
            return self.model(X)

    instance = Model()
    instance.initialize(instance_args(network, settings, max(sizes)))

    def compute(batch: Batch) -> Any:
        answers = instance.execute(batch.requests)
        # With overlap_calls they are sent, which the next call doesn't wait for.
        return [request.sender for request in batch.requests] if answers is None else answers

    return compute


def answers_of(computed: Any) -> Array:
    """Return what was computed as one array, [B, ...].

    Raises:
        RuntimeError: a request failed.
    """
    if isinstance(computed, torch.Tensor):
        return computed.float().cpu().numpy()
    return np.concatenate([one.numpy() if isinstance(one, torch.Tensor) else one.array() for one in computed])
