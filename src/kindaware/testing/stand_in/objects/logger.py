"""`pb_utils.Logger`."""

from __future__ import annotations

import os
import sys
from typing import Any, ClassVar

from kindaware.testing.stand_in.host.host import Host, Level
from kindaware.testing.stand_in.pybind.convert import to_instance, to_str
from kindaware.testing.stand_in.pybind.enum import new_enum
from kindaware.testing.stand_in.pybind.pybind import (
    MODULE,
    Arg,
    function,
    named_as_server,
    no_constructor,
    pybind11_object,
    static,
)

LEVELS: tuple[Level, ...] = ("INFO", "WARNING", "ERROR", "VERBOSE")
LogLevel = new_enum("Logger.LogLevel", LEVELS)
"""Type of `Logger.INFO` and the others."""

_INFO: Any = LogLevel.__members__["INFO"]
_OWN = __name__.removesuffix("objects.logger")
"""What the names of all modules of the stand-in begin with."""


def _log(host: Host, level: Level, message: str) -> None:
    """Log a line, with file and line number of the first frame outside the stand-in."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_OWN):
        frame = frame.f_back
    # Bytes that are not UTF-8, see `to_str`, are shown as replacement characters.
    text = message.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    host.log(level, text, os.path.basename(frame.f_code.co_filename), frame.f_lineno)


_MESSAGE = Arg("message", "str", to_str)


@named_as_server
class Logger(pybind11_object):
    """Writes to the server's log."""

    __slots__ = ()
    __init__ = no_constructor
    _constants = frozenset(LEVELS)
    LogLevel: ClassVar[Any] = LogLevel
    INFO: ClassVar[Any]
    WARNING: ClassVar[Any]
    ERROR: ClassVar[Any]
    VERBOSE: ClassVar[Any]

    @static
    @function(_MESSAGE, Arg("level", f"{MODULE}.Logger.LogLevel", to_instance(LogLevel), _INFO))
    def log(host: Host, message: str, level: Any) -> None:  # noqa: N805 - `static` passes the host
        """Write a line at a level."""
        _log(host, level.name, message)

    @static
    @function(_MESSAGE)
    def log_info(host: Host, message: str) -> None:  # noqa: N805
        """Write a line."""
        _log(host, "INFO", message)

    @static
    @function(_MESSAGE)
    def log_warn(host: Host, message: str) -> None:  # noqa: N805
        """Write a warning."""
        _log(host, "WARNING", message)

    @static
    @function(_MESSAGE)
    def log_error(host: Host, message: str) -> None:  # noqa: N805
        """Write an error."""
        _log(host, "ERROR", message)

    @static
    @function(_MESSAGE)
    def log_verbose(host: Host, message: str) -> None:  # noqa: N805
        """Write a line that shows with `--log-verbose` only."""
        _log(host, "VERBOSE", message)


# Past the metaclass, which lets nobody set a constant.
for _name, _member in LogLevel.__members__.items():
    type.__setattr__(Logger, _name, _member)
