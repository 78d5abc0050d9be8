"""Tools to test models with: a real tritonserver for as long as a `with` block lasts."""

from __future__ import annotations

from kindaware.testing.server._failure import ServerError
from kindaware.testing.server._server import TritonServer

__all__ = ["ServerError", "TritonServer"]
