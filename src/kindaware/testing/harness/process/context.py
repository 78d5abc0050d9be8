"""What the processes of one simulated server share: its release, devices, log and metrics."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext

from kindaware.testing.accelerator import SimulatedAccelerator
from kindaware.testing.harness.pending import Pending
from kindaware.testing.harness.process.hang_guard import HangGuard
from kindaware.testing.harness.process.log import ServerLog
from kindaware.testing.harness.process.loop import BackgroundLoop
from kindaware.testing.harness.process.surroundings import Leftovers, Surroundings
from kindaware.testing.stand_in import Host, MetricRegistry, TritonContractError


class ServerContext:
    """What the processes of one simulated server share.

    Args:
        server_version: year and month of the release.
        hang_timeout_seconds: how long something may take before it counts as a hang.
        finalize_timeout_seconds: how long the server waits for `finalize`.
        accelerator: stands for the host's GPUs; None is torch's own CUDA.

    Attributes:
        hosts: all processes that there were.
    """

    def __init__(
        self,
        server_version: tuple[int, int],
        hang_timeout_seconds: float,
        accelerator: SimulatedAccelerator | None = None,
        finalize_timeout_seconds: float = 30.0,
    ) -> None:
        self.server_version = server_version
        self.hang_timeout_seconds = hang_timeout_seconds
        self.finalize_timeout_seconds = finalize_timeout_seconds
        self.accelerator = accelerator
        self.guard = HangGuard()
        self.log = ServerLog()
        self.metrics = MetricRegistry()
        self.surroundings = Surroundings()
        self.hosts: list[Host] = []
        self._loops: list[BackgroundLoop] = []
        self._callees: list[Pending] = []
        self._lock = threading.Lock()
        self._seen: list[TritonContractError] = []
        self._stack = ExitStack()
        if accelerator is not None:
            self._stack.enter_context(accelerator.installed(self._blame))

    def add_process(self, host: Host, loop: BackgroundLoop) -> None:
        """Add a process, and its event loop, whose thread is not one of the model's."""
        self.hosts.append(host)
        self._loops.append(loop)

    def start_callee(self, run: Callable[[], None], pending: Pending) -> None:
        """Run a called model beside its caller, on a thread that is not one of the model's."""
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(run,), name="kindaware-callee", daemon=True)
        thread.start()
        pending.thread = thread
        with self._lock:
            self._callees = [*(one for one in self._callees if one.is_running()), pending]

    def join_callees(self, *, all_of_them: bool = False) -> None:
        """Wait for the called models that have answered, or for all, to come to the end of `execute`."""
        for pending in self._callees:
            if pending.thread is not None and (pending.is_done or all_of_them):
                pending.thread.join(self.hang_timeout_seconds)

    def _blame(self, outcome: str, remedy: str) -> None:
        """Hold the instance whose code runs responsible for a violation of CUDA's rules."""
        host = (self.accelerator and self.accelerator.process) or self.hosts[0]
        host.violation(outcome, remedy)

    def devices(self, process: object) -> AbstractContextManager[None]:
        """Let torch use the simulated devices, if there are any."""
        return nullcontext() if self.accelerator is None else self.accelerator.entered(process)

    def memory(self) -> AbstractContextManager[None]:
        """Attribute what the block does to GPU memory to the server, and not to the model."""
        return nullcontext() if self.accelerator is None else self.accelerator.of_server()

    def is_thread_left(self) -> bool:
        """Return whether a thread that a model's code has started is still running."""
        own = {
            self.guard.thread,
            *(one.thread for one in self._callees),
            *(loop.thread for loop in self._loops),
        }
        return any(thread not in own for thread in self.surroundings.other_threads())

    def raise_violations(self) -> None:
        """Raise the first TritonContractError that has not been raised yet, also if a model caught it.

        Raises:
            TritonContractError: there is one.
        """
        found = [error for host in self.hosts for error in host.violations]
        new = [error for error in found if not any(error is seen for seen in self._seen)]
        self._seen = found
        if new:
            raise new[0]

    def close(self) -> Leftovers:
        """Restore this process, and return what stays changed."""
        self.join_callees(all_of_them=True)
        self.guard.close()
        try:
            return self.surroundings.restore()
        finally:
            self._stack.close()
