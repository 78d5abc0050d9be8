"""What an instance asks of the server above it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from kindaware.testing.harness.pending import ClientRequest
from kindaware.testing.stand_in import Answer, BlsCall, WireTensor


class ModelControl(Protocol):
    """The models of a server, as the code of one of them reaches the others; see `Host` for each."""

    def run_call(self, call: BlsCall) -> Iterator[Answer]:
        """Run another model; answers come as they are sent."""

    def cancel_call(self, call: BlsCall) -> None:
        """Cancel the request of a running call."""

    def load_model(self, name: str, config: str, files: dict[str, bytes]) -> None:
        """Load a model, or reload it."""

    def unload_model(self, name: str) -> None:
        """Unload a model."""

    def is_model_ready(self, name: str, version: str) -> bool | None:
        """Return whether a model is ready; None if it is unknown."""


class Sequences(Protocol):
    """The sequence batcher of a model, as its instances use it."""

    is_iterative: bool

    def controls(self, request: ClientRequest, flags: int, is_ready: bool) -> tuple[WireTensor, ...]:
        """Return the control tensors that the model sees."""
