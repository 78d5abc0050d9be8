"""The Serve config file of `kindaware deploy ray`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from kindaware.ray._plan import DEPLOYMENT, Plan

FILE = "serve.yaml"
_HEADER = """\
# Written by `kindaware deploy ray`: replicas of a Triton server on Ray Serve.
#
#   serve run {file}       runs it, on this machine if no cluster is named
#   serve deploy {file}    hands it to a running cluster; again after each change of models
#   serve status
#
# Every node needs kindaware with the extras ray, server and client, and the repository at the same path.
"""


def write_serve_config(
    repositories: Sequence[str],
    plan: Plan,
    *,
    digest: str,
    name: str,
    route_prefix: str,
    host: str,
    port: int,
    kind: str | None = None,
    settings: Sequence[str] = (),
) -> str:
    """Return the text of the file.

    Args:
        repositories: absolute paths, or addresses.
        plan: of the deployment.
        digest: of the repositories; another one makes Serve replace the replicas one by one.
        name: of the application.
        route_prefix: of its requests over HTTP.
        host: the address on which each node takes requests.
        port: for these.
        kind: `CPU` for all instances, or None.
        settings: `MODEL.KEY=VALUE` each.
    """
    args: dict[str, Any] = {"repository": list(repositories), "digest": digest}
    args |= {"kind": kind} if kind else {}
    args |= {"settings": list(settings)} if settings else {}
    config: Mapping[str, Any] = {
        "proxy_location": "EveryNode",
        "http_options": {"host": host, "port": port},
        "applications": [
            {
                "name": name,
                "route_prefix": route_prefix,
                "import_path": "kindaware.ray:build_app",
                "args": args,
                "deployments": [{"name": DEPLOYMENT, **plan.options()}],
            }
        ],
    }
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=110)
    return f"{_HEADER.format(file=FILE)}\n{text}"
