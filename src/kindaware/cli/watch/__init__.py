"""`kindaware watch`: heals the models of a server that somebody else has started."""

from __future__ import annotations

from kindaware.cli.watch._command import watch

__all__ = ["watch"]
