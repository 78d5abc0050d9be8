"""Taking a server out of service: not ready at once, then no new requests, then none in flight."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from kindaware._server.callers import find_callers
from kindaware._server.endpoint import Endpoint
from kindaware._server.failure import ServerError

GHOST = "kindaware-is-draining"
"""The model that can't be loaded: a server with such a one says that it is not ready."""
_HELD = ("READY", "UNLOADING")
_POLL_SECONDS = 0.05
_QUIET_SECONDS = 1.0
_ENDING_SECONDS = 2.0
"""How long streams may take to end that get an error."""


class Drain:
    """Takes one server out of service, by unloading its models.

    1. Its readiness turns to no at once, for HTTP, gRPC and gRPC's health service. It goes on serving for the
       time of notice, in which balancers look at that.
    2. Models are unloaded, callers before those that they call. The server refuses new requests to them, and
       unloads each when all that it has in flight is answered and all its streams have ended.
    3. When time is up, instances of kindaware end their streams with an error.

    Args:
        endpoint: the server's, with the right to control models.
        folders: of the models on this machine, by name: they say who calls whom.
        end_streams: a file whose appearance is the word for the third step.
        seconds: for the first two steps.
        notice_seconds: between the first and the second step.
        dead: models whose process has died: the server never gives one back that failed a request then.
        is_cut_short: asked again and again; once it returns True, the rest is left out.
        on_wait: called with the models that are waited for for more than a second, whenever these change.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        folders: Mapping[str, Path],
        end_streams: Path,
        *,
        seconds: float,
        notice_seconds: float = 0.0,
        dead: Collection[str] = (),
        is_cut_short: Callable[[], bool] = lambda: False,
        on_wait: Callable[[Collection[str]], None] = lambda models: None,
    ) -> None:
        self._endpoint = endpoint
        self._dead = frozenset(dead)
        self._folders = folders
        self._end_streams = end_streams
        self._deadline = time.monotonic() + seconds
        self._notice_seconds = notice_seconds
        self._is_cut_short = is_cut_short
        self._on_wait = on_wait
        self._callers: Mapping[str, set[str]] | None = None
        self._begun: set[str] = set()
        self._waited_for: list[str] = []
        self._quiet_until = 0.0

    def run(self) -> list[str]:
        """Take the server out of service; returns the models that had requests in flight when time was up.

        Raises:
            ServerError: the server lets nobody unload models, or can't be reached.
        """
        self._turn_unready()
        self._wait_for(lambda: False, min(time.monotonic() + self._notice_seconds, self._deadline))
        self._quiet_until = time.monotonic() + _QUIET_SECONDS
        self._wait_for(self._unload_next, self._deadline)
        if left := self._held():
            self._end_streams.touch()
            self._wait_for(lambda: not self._held(), time.monotonic() + _ENDING_SECONDS)
        return left

    def _turn_unready(self) -> None:
        """Load a model that can't be: the server is ready only while all that it was asked for are."""
        config = json.dumps({"backend": GHOST})
        file = base64.b64encode(b"not read").decode()
        with contextlib.suppress(ServerError):  # that is what it says
            self._endpoint.load(GHOST, config, files={"file:1/model": file})

    def _unload_next(self) -> bool:
        """Begin to unload the models that no model calls any more; returns whether all are gone."""
        held = self._held()
        if self._callers is None:
            self._callers = find_callers({name: self._folders.get(name) for name in held})
        pending = [name for name in held if name not in self._begun]
        uncalled = [name for name in pending if not self._callers.get(name, set()).intersection(held)]
        if len(pending) == len(held):  # where all that is left call each other in circles, all at once
            uncalled = uncalled or pending
        for name in uncalled:
            self._endpoint.begin_unload(name)
            self._begun.add(name)
        if held != self._waited_for and time.monotonic() > self._quiet_until:
            self._waited_for = held
            self._on_wait(held)
        return not held

    def _held(self) -> list[str]:
        """Return the models that are loaded, or are being unloaded, and not dead."""
        return sorted({one.name for one in self._endpoint.index() if one.state in _HELD} - self._dead)

    def _wait_for(self, is_done: Callable[[], bool], until: float) -> bool:
        """Wait until it is done; returns False where the time is up first, or the rest is left out."""
        while not is_done():
            if time.monotonic() >= until or self._is_cut_short():
                return False
            time.sleep(_POLL_SECONDS)
        return True
