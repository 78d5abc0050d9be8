"""What a model's code changes in its process, and how a test process gets it back."""

from __future__ import annotations

import logging
import multiprocessing.context
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from kindaware.testing.harness.process.settings import read_settings, restore_settings

_JOIN_SECONDS = 1.0

_START: Any = multiprocessing.context._default_context
"""Holds the method by which `multiprocessing` starts processes, once it is chosen."""


class Leftovers(NamedTuple):
    """What a model leaves in its process.

    Attributes:
        settings: those that can't be put back.
        threads: names of those that are running.
    """

    settings: list[str]
    threads: list[str]


class Surroundings:
    """Remembers what the calls of a model changed: environment, directory, settings, loggers, threads.

    Only what changes during a call is put back, so that what the test itself changes meanwhile stays.
    """

    def __init__(self) -> None:
        self._environment: dict[str, str | None] = {}
        self._directory: str | None = None
        self._settings: dict[str, Any] = {}
        self._loggers = {name: _LoggerState.of(logger) for name, logger in _loggers()}
        self._threads = frozenset(threading.enumerate())
        # A stub has chosen none, so that a model may: the second choice in a process raises.
        self._start_method, _START._actual_context = _START._actual_context, None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Record what the block changes; `sys.argv` is the stub's meanwhile."""
        environment, directory, settings = dict(os.environ), _directory(), read_settings()
        try:
            with _arguments_of_stub:
                yield
        finally:
            for name in environment.keys() | os.environ.keys():
                if environment.get(name) != os.environ.get(name):
                    self._environment.setdefault(name, environment.get(name))
            if self._directory is None and directory != _directory():
                self._directory = directory
            after = read_settings()
            for name, value in settings.items():
                if after[name] != value:
                    self._settings.setdefault(name, value)

    def restore(self) -> Leftovers:
        """Put back what was changed, and return what stays."""
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if self._directory is not None:
            with suppress(OSError):
                os.chdir(self._directory)
        settings = restore_settings(self._settings)
        _START._actual_context = self._start_method
        for name, logger in _loggers():
            _restore_logger(logger, self._loggers.get(name))
        return Leftovers(settings, [thread.name for thread in self._wait_for_threads()])

    def other_threads(self) -> list[threading.Thread]:
        """Return the threads that were not there at first and are running."""
        known = self._threads | {threading.current_thread()}
        return [thread for thread in threading.enumerate() if thread not in known]

    def _wait_for_threads(self) -> list[threading.Thread]:
        """Wait a moment for threads to end; a server would kill them with the process."""
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in self.other_threads():
            thread.join(max(0.0, deadline - time.monotonic()))
        return self.other_threads()


class _StubArguments:
    """Sets `sys.argv` to what it is in a stub, `[""]`; blocks may overlap, also in several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._before: list[str] = []

    def __enter__(self) -> None:
        with self._lock:
            if self._depth == 0:
                self._before, sys.argv = sys.argv, [""]
            self._depth += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                sys.argv = self._before


_arguments_of_stub = _StubArguments()


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _loggers() -> list[tuple[str, logging.Logger]]:
    found = list(logging.Logger.manager.loggerDict.items())
    return [(name, logger) for name, logger in found if isinstance(logger, logging.Logger)]


class _LoggerState(NamedTuple):
    """The state of a logger; the defaults are those of a new one."""

    handlers: tuple[logging.Handler, ...] = ()
    filters: tuple[Any, ...] = ()
    level: int = logging.NOTSET
    propagate: bool = True
    is_disabled: bool = False

    @classmethod
    def of(cls, logger: logging.Logger) -> _LoggerState:
        return cls(
            tuple(logger.handlers), tuple(logger.filters), logger.level, logger.propagate, logger.disabled
        )


def _restore_logger(logger: logging.Logger, state: _LoggerState | None) -> None:
    """Restore a logger; one that is new is reset to an unused one."""
    wanted = state or _LoggerState()
    if _LoggerState.of(logger) == wanted:
        return
    logger.handlers[:], logger.filters[:] = wanted.handlers, wanted.filters
    logger.setLevel(wanted.level)
    logger.propagate, logger.disabled = wanted.propagate, wanted.is_disabled
