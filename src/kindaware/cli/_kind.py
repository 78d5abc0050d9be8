"""The option --kind of commands that start a server."""

from __future__ import annotations

from enum import Enum


class Kind(str, Enum):
    """What --kind takes."""

    CPU = "CPU"
