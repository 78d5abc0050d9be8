"""Triton's log: the logger of an instance writes to it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from kindaware._config.args import InstanceArgs
from kindaware._hooks.interruption import is_stub
from kindaware._triton.json_lines import JsonFormatter, wants_json
from kindaware._triton.module import find_pb_utils


class TritonLogHandler(logging.Handler):
    """Writes log records to Triton's log, at the corresponding level.

    Args:
        pb_utils: Triton's module, or the stand-in of the harness that has loaded the instance. Kept, since
            a record may come from a thread while no module, or another harness's, is in `sys.modules`.
    """

    def __init__(self, pb_utils: ModuleType) -> None:
        super().__init__()
        self._pb_utils = pb_utils

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a call to the server's process, about 70 us."""
        try:
            text = self.format(record)
            logger = self._pb_utils.Logger
            if record.levelno >= logging.ERROR:
                logger.log_error(text)
            elif record.levelno >= logging.WARNING:
                logger.log_warn(text)
            elif record.levelno >= logging.INFO:
                logger.log_info(text)
            else:
                logger.log_verbose(text)
        except Exception:
            self.handleError(record)


class LineHandler(logging.Handler):
    """Writes log records to standard error, which a stub shares with its server, each with one call.

    Triton's log would quote a line of JSON once more.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:
            self.handleError(record)
            return
        with contextlib.suppress(OSError):
            while line:
                line = line[os.write(2, line) :]


class TritonLogger(logging.Logger):
    """A logger that `logging` doesn't know, so that no configuration of it can silence this one.

    `dictConfig` and `fileConfig` disable the loggers that exist, and a model may call them in `load`.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # of logging
        """Return whether the level is logged; `logging.disable` has no say in it."""
        return level >= self.getEffectiveLevel()

    def makeRecord(self, *args: Any) -> logging.LogRecord:  # noqa: N802  # of logging
        """Return a plain record, whatever `logging.setLogRecordFactory` was given."""
        record = logging.LogRecord(*args[:8])
        extra, record.stack_info = args[8:]
        record.__dict__.update(extra or {})
        return record

    def getChild(self, suffix: str) -> TritonLogger:  # noqa: N802  # of logging
        """Return a logger that writes to the same log under a longer name."""
        child = TritonLogger(f"{self.name}.{suffix}")
        child.parent = self
        return child


def open_logger(args: InstanceArgs, environment: Mapping[str, str]) -> logging.Logger:
    """Return the instance's logger: writes to Triton's log in a server, plain `logging` elsewhere.

    Raises:
        ConfigError: the environment asks for a format that there isn't.
    """
    name = f"kindaware.{args.instance_name}"
    is_json = wants_json(environment)
    pb_utils = find_pb_utils()
    if pb_utils is None:
        return logging.getLogger(name)
    logger = TritonLogger(name, logging.INFO)
    handler = LineHandler() if is_json and is_stub() else TritonLogHandler(pb_utils)
    if is_json:
        about = {"model": args.model_name, "version": args.model_version, "instance": args.instance_name}
        handler.setFormatter(JsonFormatter(about))
    logger.addHandler(handler)
    return logger
