"""Scale out on Ray Serve: a deployment whose replicas each run a tritonserver on their node.

`triton_app` makes the application in Python; `kindaware deploy ray` writes the same as a Serve config, whose
`import_path` is `build_app`. Needs the extras `ray`, `server` and `client`, on every node.

`_replica` is one replica: a server, requests to it, its health, its end. `_plan` has what Serve is told about
the deployment, `_serve_config` the file. `_autoscaling` decides on the number of replicas.
"""

from __future__ import annotations

from kindaware.ray._app import build_app, triton_app
from kindaware.ray._autoscaling import PendingRequests
from kindaware.ray._replica import TritonReplica

__all__ = ["PendingRequests", "TritonReplica", "build_app", "triton_app"]
