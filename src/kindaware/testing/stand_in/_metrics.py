"""The metrics of one pretended server, shared by all its models."""

from __future__ import annotations


class MetricRegistry:
    """All metric families of a server; `samples` is what its metrics port would show."""
