"""What the stand-in asks of the server that it simulates."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Protocol

from kindaware.testing.stand_in.host.errors import RefusalError, TritonContractError
from kindaware.testing.stand_in.host.metrics import MetricRegistry
from kindaware.testing.stand_in.wire.wire import Answer, BlsCall

Phase = Literal["import", "auto_complete", "construct", "initialize", "execute", "finalize", "done"]
Level = Literal["INFO", "WARNING", "ERROR", "VERBOSE"]

NEWEST: tuple[int, int] = (26, 7)
"""The release that `server_version="current"` means."""


class RequestHandle(Protocol):
    """The part of an InferenceRequest that a host may use; a request is the same object all the time."""

    def request_id(self) -> str:
        """Return the client's id of the request."""


class Host:
    """One simulated stub process, which is one instance of a model. Derive from it, and set or override.

    Args:
        model_name: the model.
        instance_name: what error texts call the process, such as `model_0_0`.
        server_version: year and month of the release whose behaviour is wanted.
        model_dir: the version's directory, for `get_model_dir()`.
        is_decoupled: `model_transaction_policy { decoupled: true }`.
        metrics: the server's metrics; share one registry between all models of one server.

    Attributes:
        phase: the harness moves it on. `execute` lasts from the return of `initialize` until `finalize`
            starts, also while no batch is running: only then are BLS calls allowed.
        violations: every TritonContractError of this host, in order, also if the model caught it.
    """

    def __init__(
        self,
        model_name: str = "model",
        *,
        instance_name: str | None = None,
        server_version: tuple[int, int] = (24, 10),
        model_dir: str = "",
        is_decoupled: bool = False,
        metrics: MetricRegistry | None = None,
    ) -> None:
        self.model_name = model_name
        self.instance_name = instance_name or f"{model_name}_0_0"
        self.server_version = server_version
        self.model_dir = model_dir
        self.is_decoupled = is_decoupled
        self.metrics = MetricRegistry() if metrics is None else metrics
        self.phase: Phase = "import"
        self.violations: list[TritonContractError] = []
        self.classes: Any = None  # of the stand-in: the classes bound to this host

    def violation(self, outcome: str, remedy: str) -> TritonContractError:
        """Record the error to raise, and return it: `the server would <outcome>; <remedy>`."""
        error = TritonContractError(f"model {self.model_name!r}: the server would {outcome}; {remedy}")
        self.violations.append(error)
        return error

    def log(self, level: Level, text: str, filename: str, line: int) -> None:
        """Take one line of `pb_utils.Logger`, with the file's name (no directory) and line of the caller.

        The text is as given. A server escapes its line ends, shows VERBOSE with `--log-verbose` only, and has
        no log while the model is auto-completed: it writes to stderr then.
        """

    def is_cancelled(self, request: RequestHandle) -> bool:
        """Return whether the client of a request that the server handed out has cancelled it."""
        return False

    def on_send(self, request: RequestHandle, answer: Answer) -> None:
        """Take what was sent, at once, in the thread that called `send`; `state_of(request)` keeps it too.

        Further sends of the same request wait until this returns.
        """

    def server_memory(self) -> AbstractContextManager[None]:
        """Attribute what the block does to GPU memory to the server, and not to the model."""
        return nullcontext()

    def run_bls(self, call: BlsCall) -> Iterable[Answer]:
        """Run another model; called in the thread that calls `exec`.

        Yield one Answer per send of the called model, flags alone included (`is_flag_only`), as they come.
        A model that is not decoupled sends one. The last has `is_final`. An Answer's `failure` is the called
        model's error, its own or the one that left its `execute`.

        Raises:
            RefusalError: the request can't be submitted: unknown model, unexpected input, and so on. The
                model reads `Model 'name' - Error when running inference: <text>`.
        """
        raise RefusalError(
            f"Failed for execute the inference request. Model '{call.model_name}' is not ready."
        )

    def cancel_bls(self, call: BlsCall) -> None:
        """Cancel the request of a running call (`ResponseIterator.cancel`, from 25.04)."""

    def load_model(self, model_name: str, config: str, files: dict[str, bytes]) -> None:
        """Load another model; `config` is JSON, or empty.

        Raises:
            RefusalError: with the server's reason.
        """
        raise RefusalError(f"failed to load '{model_name}', failed to poll from model repository")

    def unload_model(self, model_name: str, unload_dependents: bool) -> None:
        """Unload another model; an unknown one is no error.

        Raises:
            RefusalError: with the server's reason.
        """

    def is_model_ready(self, model_name: str, model_version: str) -> bool | None:
        """Return whether a model is ready; None if it is unknown. An empty version means any."""
        return None
