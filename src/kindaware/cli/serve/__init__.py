"""`kindaware serve`: a server in the foreground."""

from __future__ import annotations

from kindaware.cli.serve._command import serve

__all__ = ["serve"]
