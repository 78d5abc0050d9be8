"""Tools to test models with: a real tritonserver for as long as a `with` block lasts."""

from __future__ import annotations

from kindaware.testing._failure import ServerError
from kindaware.testing._server import TritonServer

__all__ = ["ServerError", "TritonServer"]
