"""What is compared on a GPU: each takes a batch of requests, and can be asked for its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from benchmarks.gpu.requests import Batch, InferenceResponse, instance_args
from benchmarks.networks import Network
from kindaware import KindAwareModel

DEVICE = "cuda:0"


def threaded(name: str, num_threads: int) -> str:
    """Name what is done with so many threads."""
    return f"{name}, {num_threads} thread{'s' if num_threads > 1 else ''}"


class Candidate(Protocol):
    """Computes batches."""

    def __call__(self, batch: Batch) -> Any:
        """Compute one batch; may return before the device is done."""


class BareForward:
    """The network alone, on inputs that are on the device already: nothing that is served can be faster.

    Args:
        network: what is computed.
        batches: whose rows are put on the device.
        dtype: of weights and floating inputs.
        is_channels_last: their memory format.
    """

    def __init__(
        self, network: Network, batches: Sequence[Batch], *, dtype: torch.dtype, is_channels_last: bool
    ) -> None:
        self._layout = torch.channels_last if is_channels_last else torch.contiguous_format
        self._net = network.build().to(DEVICE, dtype=dtype)
        if is_channels_last:
            self._net = self._net.to(memory_format=self._layout)
        self._inputs = {id(batch): self._on_device(batch, dtype) for batch in batches}

    def _on_device(self, batch: Batch, dtype: torch.dtype) -> torch.Tensor:
        rows = torch.from_numpy(np.concatenate(batch.arrays)).to(DEVICE)
        return rows.to(dtype, memory_format=self._layout) if rows.is_floating_point() else rows

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Queue the forward."""
        with torch.inference_mode():
            output: torch.Tensor = self._net(self._inputs[id(batch)])
            return output

    def answers(self, batch: Batch) -> np.ndarray[Any, Any]:
        """Give the output, [B, ...]."""
        return self(batch).float().cpu().numpy()


class PerRequestLoop:
    """As the official example of instance kinds does it: a forward per request, in full precision.

    The server copies each answer to the host after `execute` has returned; here that is done at the end.
    """

    def __init__(self, network: Network) -> None:
        self._net = network.build().to(DEVICE)

    def __call__(self, batch: Batch) -> list[torch.Tensor]:
        """Compute row by row, then copy the answers."""
        answers = []
        with torch.no_grad():
            for request in batch.requests:
                answers.append(self._net(torch.as_tensor(request.inputs()[0].as_numpy(), device=DEVICE)))
        return [answer.cpu() for answer in answers]

    def answers(self, batch: Batch) -> np.ndarray[Any, Any]:
        """Give the output, [B, ...]."""
        return torch.cat(self(batch)).numpy()


class Served:
    """A KindAwareModel, from the requests' arrays to the responses' arrays.

    Args:
        network: what it computes.
        settings: its settings, as text.
        max_rows: the most rows of a batch.

    Raises:
        ConfigError: it can't be loaded with these settings.
    """

    def __init__(self, network: Network, settings: Mapping[str, str], max_rows: int) -> None:
        class Model(KindAwareModel):
            """The network, and nothing else."""

            def load(self) -> torch.nn.Module:
                return network.build()

            def forward(self, X: torch.Tensor) -> Any:  # noqa: N803 - the input's name
                return self.model(X)

        self._instance = Model()
        self._instance.initialize(instance_args(network, settings, max_rows))

    def __call__(self, batch: Batch) -> list[InferenceResponse]:
        """Answer the requests in one call of `execute`."""
        return self._instance.execute(batch.requests)

    def answers(self, batch: Batch) -> np.ndarray[Any, Any]:
        """Give the output, [B, ...].

        Raises:
            RuntimeError: a request failed.
        """
        return np.concatenate([response.array() for response in self(batch)])


class HostCopy:
    """Joins the requests' rows in page-locked memory, with so many of torch's threads."""

    def __init__(self, batches: Sequence[Batch], num_threads: int) -> None:
        self._num_threads = num_threads
        self._rows = {id(batch): [torch.from_numpy(array) for array in batch.arrays] for batch in batches}
        first = next(iter(self._rows.values()))
        self._target = torch.empty(len(first), *first[0].shape[1:], dtype=first[0].dtype, pin_memory=True)

    def __call__(self, batch: Batch) -> None:
        """Copy; done when it returns."""
        if torch.get_num_threads() != self._num_threads:
            torch.set_num_threads(self._num_threads)
        torch.cat(self._rows[id(batch)], out=self._target)
