"""Whether a replica's server still serves what it served at first."""

from __future__ import annotations

import time

from kindaware._server.failure import ServerError
from kindaware._server.log import last_lines
from kindaware._server.server import TritonServer
from kindaware._server.stub_watch import StubWatch

_PATIENCE_SECONDS = 8.0
"""Less than Serve waits for the whole of a check. A busy machine may leave a server without a core."""
_REMEDY = "Ray starts another replica; the server's log has more"


class Health:
    """Watches the models that were ready when the server was.

    Args:
        server: which runs.
    """

    def __init__(self, server: TritonServer) -> None:
        self._server = server
        self._stubs = StubWatch(server.pid, grace_seconds=0.0)
        self._models = [(one.name, one.version) for one in server.models() if one.state == "READY"]

    def check(self) -> None:
        """Ask for every model; waits at most 8 s for all of them.

        Raises:
            ServerError: the server has ended, a model isn't ready or doesn't say so in time, or a process of
                one has ended, which servers before 26.01 call ready.
        """
        returncode = self._server.poll()
        if returncode is not None:
            error = ServerError.of(
                "tritonserver of this replica",
                expected="a running server",
                got=f"its end with status {returncode}",
                remedy="Ray starts another replica; the end of the server's log follows",
            )
            raise ServerError(f"{error}\n\n{last_lines(self._server.log_text())}")
        deadline = time.monotonic() + _PATIENCE_SECONDS
        for name, version in self._models:
            left = max(deadline - time.monotonic(), 0.1)
            if not self._server.is_model_ready(name, version, left):
                raise ServerError.of(
                    f"model {name!r} version {version}",
                    expected="a model that is ready",
                    got="one that isn't",
                    remedy=_REMEDY,
                )
        if self._stubs.has_lost_stub():
            raise ServerError.of(
                "models of this replica",
                expected="an instance behind each",
                got="one whose process has ended",
                remedy=_REMEDY,
            )
