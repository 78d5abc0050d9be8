"""A reload of the model, asked for once after the instance's device has failed."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Mapping
from logging import Logger
from pathlib import Path

from kindaware._config.args import InstanceArgs
from kindaware._config.settings import RELOADS
from kindaware._errors import ConfigError, describe, message
from kindaware._triton.adapter import TritonAdapter

MAX_RELOADS = 3
"""How many reloads may follow one another, each within `CALM_SECONDS` of the one before."""

CALM_SECONDS = 3600.0
"""After so long without a fault, the next reload counts as the first."""

_DELAY_SECONDS = 0.2
"""The answers of the call that failed leave first: nothing leaves while the server loads."""


class Reload:
    """Asks the server, once, to load the model anew: all its instances get new processes.

    A process can't know what happened before it. So the configuration that is handed to the server says how
    many reloads there were, and how many of them in a row, in the parameter `RELOADS`. The first of the two
    numbers makes it another configuration each time: the server leaves a model as it is when neither its
    files nor its configuration have changed. Several instances that ask at once hand over the same, and get
    one reload.

    Only a server with explicit model control loads what a model asks for. The others are never asked, since a
    load that fails can abort a server. Source: measured on tritonserver 2.51.0; see docs/errors.md.

    Args:
        args: what Triton handed to the instance.
        parameters: the configuration's parameters.
        adapter: the way to the server.
        logger: told what is asked for, and what came of it.

    Raises:
        ConfigError: the numbers of reloads are none that were written here.
    """

    def __init__(
        self, args: InstanceArgs, parameters: Mapping[str, str], adapter: TritonAdapter, logger: Logger
    ) -> None:
        self._args = args
        self._adapter = adapter
        self._logger = logger
        self._num_before, self._num_in_a_row = _read_counts(parameters)
        self._loaded_at = time.monotonic()
        self._is_begun = False
        self._obstacle = None if adapter.is_stand_in else self._find_obstacle()
        if self._obstacle is not None:
            logger.warning(self._obstacle)

    def begin(self) -> None:
        """Ask for the reload on a thread of its own; a second call does nothing. Returns at once.

        Sync:
            The thread holds the GIL until the server has loaded the model, for `pb_utils.load_model` does.
        """
        if self._is_begun:
            return
        self._is_begun = True
        seconds = time.monotonic() - self._loaded_at
        number = 1 if seconds >= CALM_SECONDS else self._num_in_a_row + 1
        refusal = self._obstacle or (None if number <= MAX_RELOADS else self._too_many(seconds))
        if refusal is not None:
            self._logger.error(refusal)
            return
        timer = threading.Timer(_DELAY_SECONDS, self._load, [number])
        timer.name, timer.daemon = "kindaware-reload", True
        timer.start()

    def _load(self, number: int) -> None:
        model = self._args.model_name
        self._logger.warning("model %r: reload %d of at most %d asked for", model, number, MAX_RELOADS)
        counts = {"string_value": f"{self._num_before + 1},{number}"}
        parameters = {**self._args.config.get("parameters", {}), RELOADS: counts}
        started = time.monotonic()
        try:
            self._adapter.load_model(model, json.dumps({**self._args.config, "parameters": parameters}))
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
    """Give the `--model-control-mode` that a server was started with; empty where it doesn't say.

    A stub is a child of its server. Source: python_backend `stub_launcher.cc`, StubLauncher::Launch.
    """
    try:
        command = Path(f"/proc/{server_pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
    said = re.findall(r"\0--model-control-mode[=\0]([^\0]*)", command)
    return said[-1] if said else ""


def _read_counts(parameters: Mapping[str, str]) -> tuple[int, int]:
    """Read how many reloads there were, and how many in a row."""
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
