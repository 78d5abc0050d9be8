"""What a model's code changes in its process, and what a test process gets back."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_JOIN_SECONDS = 1.0


class Surroundings:
    """Remembers what the calls of a model changed: environment, directory, torch, loggers, threads.

    Only what changes during a call is put back, so that what the test itself changes meanwhile stays.
    """

    def __init__(self) -> None:
        self._environment: dict[str, str | None] = {}
        self._directory: str | None = None
        self._torch: dict[str, Any] = {}
        self._loggers = {name: _logger_state(logger) for name, logger in _loggers()}
        self._threads = frozenset(threading.enumerate())

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note what the block changes."""
        environment, directory, torch = dict(os.environ), _directory(), _torch_state()
        try:
            yield
        finally:
            for name in environment.keys() | os.environ.keys():
                if environment.get(name) != os.environ.get(name):
                    self._environment.setdefault(name, environment.get(name))
            if self._directory is None and directory != _directory():
                self._directory = directory
            after = _torch_state()
            for name, value in torch.items():
                if after[name] != value:
                    self._torch.setdefault(name, value)

    def restore(self) -> list[str]:
        """Put back what was changed.

        Returns:
            Names of threads that the model has left running.
        """
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if self._directory is not None:
            with suppress(OSError):
                os.chdir(self._directory)
        _restore_torch(self._torch)
        for name, logger in _loggers():
            _restore_logger(logger, self._loggers.get(name))
        return [thread.name for thread in self._wait_for_threads()]

    def other_threads(self) -> list[threading.Thread]:
        """The threads that were not there at first and still run."""
        known = self._threads | {threading.current_thread()}
        return [thread for thread in threading.enumerate() if thread not in known]

    def _wait_for_threads(self) -> list[threading.Thread]:
        """A server would kill them with the process; here they get a moment to end."""
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in self.other_threads():
            thread.join(max(0.0, deadline - time.monotonic()))
        return self.other_threads()


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _torch_state() -> dict[str, Any]:
    """Process-wide settings of torch, if it is there; without one at first, its defaults would be unknown."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_num_threads"):
        return {}
    return {
        "num_threads": torch.get_num_threads(),
        "default_dtype": torch.get_default_dtype(),
        "grad_enabled": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _restore_torch(state: dict[str, Any]) -> None:
    torch = sys.modules.get("torch")
    setters = {
        "num_threads": "set_num_threads",
        "default_dtype": "set_default_dtype",
        "grad_enabled": "set_grad_enabled",
        "deterministic": "use_deterministic_algorithms",
    }
    for name, value in state.items():
        getattr(torch, setters[name])(value)


def _loggers() -> list[tuple[str, logging.Logger]]:
    found = list(logging.Logger.manager.loggerDict.items())
    return [(name, logger) for name, logger in found if isinstance(logger, logging.Logger)]


def _logger_state(logger: logging.Logger) -> tuple[list[logging.Handler], int, bool]:
    return list(logger.handlers), logger.level, logger.propagate


def _restore_logger(logger: logging.Logger, state: tuple[list[logging.Handler], int, bool] | None) -> None:
    """A logger that is new goes back to being unused."""
    handlers, level, propagate = state or ([], logging.NOTSET, True)
    if logger.handlers != handlers:
        logger.handlers[:] = handlers
    if logger.level != level:
        logger.setLevel(level)
    logger.propagate = propagate
