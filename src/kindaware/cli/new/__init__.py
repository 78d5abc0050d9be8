"""`kindaware new`: a directory for a model."""

from kindaware.cli.new._command import new

__all__ = ["new"]
