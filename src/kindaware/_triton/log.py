"""Triton's log: the logger of an instance writes to it."""

from __future__ import annotations

import logging
import sys
from typing import Any

from kindaware._triton.module import PB_UTILS, find_pb_utils


class TritonLogHandler(logging.Handler):
    """Writes log records to Triton's log, at the corresponding level."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a call to the server's process, about 70 us."""
        # Looked up per record: in tests the stand-in may be gone while the logger lives on.
        logger = getattr(sys.modules.get(PB_UTILS), "Logger", None)
        if logger is None:
            return
        try:
            text = self.format(record)
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


def open_logger(instance_name: str) -> logging.Logger:
    """Return the instance's logger: writes to Triton's log in a server, plain `logging` elsewhere."""
    name = f"kindaware.{instance_name}"
    if find_pb_utils() is None:
        return logging.getLogger(name)
    logger = TritonLogger(name, logging.INFO)
    logger.addHandler(TritonLogHandler())
    return logger
