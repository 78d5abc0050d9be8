"""`Reload`: asks the server to reload the model after the instance's device has failed."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Mapping
from logging import Logger
from types import ModuleType

from kindaware._config.args import InstanceArgs
from kindaware._config.settings import RELOADS
from kindaware._errors import ConfigError, describe, message
from kindaware._triton.module import is_stand_in
from kindaware._triton.server_process import read_server_option

MAX_RELOADS = 3
"""Maximum number of reloads in a row, each within `CALM_SECONDS` of the previous one."""

CALM_SECONDS = 3600.0
"""After this time without a fault, the next reload counts as the first of a row."""

_DELAY_SECONDS = 0.2
"""Delay before the reload, so that the responses of the failed call are sent first: while the server loads,
this process sends nothing."""


class Reload:
    """Asks the server, once, to reload the model, which gives all its instances new processes.

    A new process doesn't know what happened before it. So the configuration that is passed to the server
    holds, in the parameter `RELOADS`, the total number of reloads and the number of reloads in a row. The
    total also makes the configuration differ each time: the server doesn't reload a model if neither its
    files nor its configuration have changed. If several instances ask at once, they pass the same
    configuration, which leads to a single reload.

    Only a server with explicit model control loads a model on request. Other servers are never asked, since a
    failing load can abort a server. Source: measured on tritonserver 2.51.0; see docs/reference/errors.md.

    Args:
        args: the args of the instance.
        parameters: the configuration's `parameters`.
        pb_utils: Triton's module, or a stand-in.
        logger: gets a record of the request, and of its outcome.

    Raises:
        ConfigError: the parameter `RELOADS` was not written by this class.
    """

    def __init__(
        self, args: InstanceArgs, parameters: Mapping[str, str], pb_utils: ModuleType, logger: Logger
    ) -> None:
        self._args = args
        self._pb_utils = pb_utils
        self._logger = logger
        self._num_before, self._num_in_a_row = _read_counts(parameters)
        self._loaded_at = time.monotonic()
        self._is_begun = False
        self._lock = threading.Lock()
        self._obstacle = None if is_stand_in(pb_utils) else self._find_obstacle()
        if self._obstacle is not None:
            logger.warning(self._obstacle)

    def begin(self) -> None:
        """Request the reload on a thread of its own; a second call does nothing.

        Sync:
            None: returns at once. Shortly after, the thread holds the GIL until the server has loaded the
            model, because `pb_utils.load_model` does.
        """
        with self._lock:
            if self._is_begun:
                return
            self._is_begun = True
        # This process was started by the last reload, if there was one, so its age is the time since then.
        seconds = time.monotonic() - self._loaded_at
        number = 1 if seconds >= CALM_SECONDS else self._num_in_a_row + 1
        refusal = self._obstacle or (None if number <= MAX_RELOADS else self._too_many(seconds))
        if refusal is not None:
            self._logger.error(refusal)
            return
        timer = threading.Timer(_DELAY_SECONDS, self._load, [number])
        # A daemon, so that it doesn't keep a process alive that is told to end.
        timer.name, timer.daemon = "kindaware-reload", True
        timer.start()

    def _load(self, number: int) -> None:
        model = self._args.model_name
        self._logger.warning("model %r: reload %d of at most %d asked for", model, number, MAX_RELOADS)
        counts = {"string_value": f"{self._num_before + 1},{number}"}
        # The configuration as Triton passed it, which includes what an operator has overridden on loading.
        parameters = {**self._args.config.get("parameters", {}), RELOADS: counts}
        started = time.monotonic()
        try:
            # With the GIL held until the model is loaded. Source: measured on tritonserver 2.51.0.
            self._pb_utils.load_model(
                model, config=json.dumps({**self._args.config, "parameters": parameters})
            )
        except Exception as error:
            text = message(
                f"model {model!r}",
                expected="the server to load it anew after the device has failed",
                got=describe(error),
                remedy="unload and load it by hand, or restart the server; until then it answers UNAVAILABLE",
            )
            self._logger.error(text)
        else:
            self._logger.info("model %r: loaded anew in %.2f s", model, time.monotonic() - started)

    def _find_obstacle(self) -> str | None:
        """Return a message about why this server can't be asked for a reload; None if it can."""
        control = read_model_control(os.getppid())
        if control == "explicit":
            return None
        return message(
            f"model {self._args.model_name!r} setting 'reload_on_fault'",
            expected="a server started with --model-control-mode=explicit",
            got=f"--model-control-mode={control}" if control else "no --model-control-mode",
            remedy="start it so; else a fault of the device leaves this instance UNAVAILABLE until a restart",
        )

    def _too_many(self, seconds: float) -> str:
        return message(
            f"model {self._args.model_name!r}",
            expected=f"at most {MAX_RELOADS} reloads, each within {CALM_SECONDS:.0f} s of the one before",
            got=f"another fault of the device {seconds:.0f} s after reload {self._num_in_a_row}",
            remedy="find what breaks the device, then unload and load the model by hand; until then it "
            "answers UNAVAILABLE",
        )


def read_model_control(server_pid: int) -> str:
    """Return the `--model-control-mode` of a running server; empty if its command line has none.

    Args:
        server_pid: process id of the server; a stub is a child process of its server.
            Source: python_backend `stub_launcher.cc`, StubLauncher::Launch.
    """
    return read_server_option(server_pid, "--model-control-mode")


def _read_counts(parameters: Mapping[str, str]) -> tuple[int, int]:
    """Return the total number of reloads, and the number of reloads in a row."""
    text = parameters.get(RELOADS, "0,0")
    if not re.fullmatch(r"[0-9]{1,9},[0-9]{1,9}", text):
        raise ConfigError.of(
            f"parameter {RELOADS!r}",
            expected="two numbers such as '4,1', which the library writes itself",
            got=repr(text)[:80],
            remedy="remove it from config.pbtxt",
        )
    num_before, num_in_a_row = map(int, text.split(","))
    return num_before, num_in_a_row
