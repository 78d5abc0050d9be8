"""Waiting for a server that loads models, and noticing when it waits for nothing itself."""

from __future__ import annotations

import time
from collections.abc import Callable

from kindaware._server import log as _log
from kindaware._server.diagnosis import diagnose
from kindaware._server.endpoint import Endpoint
from kindaware._server.failure import LostStubError, ServerError
from kindaware._server.own_thread import OwnThread
from kindaware._server.process import ServerProcess
from kindaware._server.stub_watch import StubWatch

_POLL_SECONDS = 0.05
_HELD_SECONDS = 10.0
"""How long a stub may take to end after it has said that it failed."""
_UNSETTLED = ("LOADING", "UNLOADING")


def watch_load(load: Callable[[], None], model: str, check: Callable[[], None]) -> None:
    """Load a model; waits without a limit until it is ready, or something is wrong.

    Args:
        load: loads it, and raises a ServerError with the server's words.
        model: its name.
        check: raises a ServerError when the server waits in vain; it is called again and again.

    Raises:
        ServerError: of one of the two.
    """
    failed: list[ServerError] = []

    def ask() -> None:
        try:
            load()
        except ServerError as error:
            failed.append(error)

    asking = OwnThread(ask, f"kindaware load {model}")
    asking.start()
    while asking.is_alive():
        check()
        asking.join(_POLL_SECONDS)
    if failed:
        raise failed[0]


class LoadWatch:
    """Watches a server while it loads models.

    Args:
        process: of the server.
        grace_seconds: how long the server may take to notice that a stub has ended.
        exit_on_error: whether the server ends when a model fails.
        read_log: returns all that the server has printed.
        is_others: tells of a child whether it belongs to a model that isn't being loaded.
    """

    def __init__(
        self,
        process: ServerProcess,
        *,
        grace_seconds: float,
        exit_on_error: bool,
        read_log: Callable[[], str],
        is_others: Callable[[int], bool] = lambda pid: False,
    ) -> None:
        self._process = process
        self._stubs = StubWatch(process.pid, grace_seconds, is_others)
        self._exit_on_error = exit_on_error
        self._read_log = read_log
        self._log_length = -1
        self._num_failures = 0
        self._held_since: float | None = None

    def wait_until_loaded(self, endpoint: Endpoint, timeout_seconds: float) -> None:
        """Wait until the server is live, and no model is being loaded any more.

        Raises:
            ServerError: it has ended, can't go on, or the time is over.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            self._check_process()
            is_live = endpoint.is_live()
            # Asked in this order, for another program could answer at the port of a server that has ended.
            self._check_process()
            if is_live and not any(status.state in _UNSETTLED for status in endpoint.index()):
                return
            if is_live is False:
                self._check_creation()
            self._check_stubs()
            if time.monotonic() > deadline:
                raise diagnose(f"none within {timeout_seconds:g} s", self._read_log())
            time.sleep(_POLL_SECONDS)

    def load(self, load: Callable[[], None], model: str) -> None:
        """Load a model; waits without a limit, unless the model's stub has ended.

        Args:
            load: loads it, and raises a ServerError with the server's words.
            model: its name.

        Raises:
            ServerError: with the server's words, or it waits for a stub that has ended.
        """
        watch_load(load, model, self._check_stubs)

    def _check_process(self) -> None:
        """Raise when the server has ended."""
        returncode = self._process.poll()
        if returncode is not None:
            raise diagnose(f"its end with status {returncode}", self._read_log())

    def _check_creation(self) -> None:
        """Raise when the server listens, and has said that it could not be created."""
        log = self._read_log()
        reason = _log.read_creation_error(log)
        if reason is not None:
            raise diagnose(f"one that could not be created ({reason})", log)

    def _check_stubs(self) -> None:
        """Raise when the server waits for a stub that has ended, or can't end."""
        log = self._read_log()
        if len(log) != self._log_length:
            self._log_length = len(log)
            num_failures = len(_log.read_failures(log))
            if num_failures != self._num_failures:
                self._num_failures = num_failures
                self._stubs.forgive()
            unfinished = _log.read_unfinished(log)
            held = self._exit_on_error and set(_log.read_stub_errors(log, unfinished)) & set(unfinished)
            self._held_since = (self._held_since or time.monotonic()) if held else None
        if self._stubs.has_lost_stub():
            words = _log.read_stub_failure(log)
            said = "" if words is None else f" ({words})"
            got = f"the end of a stub{said} that the server goes on waiting for"
            raise diagnose(got, log, LostStubError)
        if self._held_since is not None and time.monotonic() - self._held_since > _HELD_SECONDS:
            raise diagnose("a stub that failed and does not end", log)
