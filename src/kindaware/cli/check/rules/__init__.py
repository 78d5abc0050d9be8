"""The rules; importing this registers them."""

from __future__ import annotations

from kindaware.cli.check.rules import code, configuration, files, machine, running

__all__ = ["code", "configuration", "files", "machine", "running"]
