"""`kindaware deploy`: files that serve models on several machines, a subcommand for each kind."""

from __future__ import annotations

from kindaware.cli.deploy._ray import deploy_ray

__all__ = ["deploy_ray"]
