"""`kindaware deploy`: files that serve models on several machines, a subcommand for each kind."""

from __future__ import annotations

from kindaware.cli.deploy._containerfile import deploy_containerfile
from kindaware.cli.deploy._kubernetes import deploy_kubernetes
from kindaware.cli.deploy._ray import deploy_ray

__all__ = ["deploy_containerfile", "deploy_kubernetes", "deploy_ray"]
