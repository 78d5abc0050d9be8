"""The application of Ray Serve, in Python and for a Serve config."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kindaware._errors import ConfigError
from kindaware.ray._plan import Plan
from kindaware.ray._replica import TritonReplica

if TYPE_CHECKING:
    from ray.serve import Application


def triton_app(
    repository: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    replicas: int = 1,
    max_replicas: int | None = None,
    target_pending: float = 8.0,
    cpus: float = 1.0,
    gpus: float = 0.0,
    drain_seconds: float = 30.0,
    digest: str | None = None,
    kind: str | None = None,
    settings: Sequence[str] = (),
    args: Sequence[str] = (),
    startup_timeout_seconds: float = 600.0,
) -> Application:
    """Return an application for `serve.run`, whose replicas each run a tritonserver with all the models.

        handle = serve.run(triton_app("models", replicas=2))
        outputs = handle.infer.remote("iris", {"FEATURES": features}).result()

    Over HTTP the application takes Triton's own requests, such as `POST /v2/models/NAME/infer`.

    Args:
        repository: a directory with one directory per model, or several; at the same path on every node.
        replicas: how many; the fewest with `max_replicas`.
        max_replicas: the most: their number follows the requests that wait in the servers.
        target_pending: requests that may wait in each server before there are more replicas.
        cpus: CPU cores per replica; its CPU instances share them.
        gpus: GPUs per replica, which Ray chooses; a part of one below 1.
        drain_seconds: how long a replica that is to end goes on answering the requests that it has.
        digest: of the repository's files, as `kindaware deploy ray` writes it; a replica that finds others
            doesn't start.
        kind: `CPU` puts every instance on the CPU.
        settings: `MODEL.KEY=VALUE` each, over what the configurations say, as for `TritonServer`.
        args: further arguments for the server.
        startup_timeout_seconds: how long loading the models may take.

    Raises:
        ConfigError: a number is out of range, or Ray Serve isn't installed.
    """
    plan = Plan(replicas, max_replicas, target_pending, cpus, gpus, drain_seconds)
    paths = [repository] if isinstance(repository, (str, os.PathLike)) else list(repository)
    return _bind(
        {
            "repository": [os.path.abspath(one) if "://" not in str(one) else str(one) for one in paths],
            "digest": digest,
            "kind": kind,
            "settings": list(settings),
            "args": list(args),
            "startup_timeout_seconds": startup_timeout_seconds,
        },
        plan.options(),
    )


def build_app(args: Mapping[str, Any]) -> Application:
    """Return the application of a Serve config, whose `deployments` have the options of the deployment.

    Args:
        args: the arguments of `TritonReplica`.

    Raises:
        ConfigError: one has another name, `repository` is missing, or Ray Serve isn't installed.
    """
    names = list(inspect.signature(TritonReplica).parameters)
    for name in args:
        if name not in names:
            raise ConfigError.of(
                f"args of the application: {name}",
                expected=f"one of {', '.join(names)}",
                got="another name",
                remedy="correct it in the Serve config",
            )
    if "repository" not in args:
        raise ConfigError.of(
            "args of the application", expected="repository", got="none", remedy="add it to the Serve config"
        )
    return _bind(args, Plan().options())


def _bind(args: Mapping[str, Any], options: Mapping[str, Any]) -> Application:
    try:
        from ray import serve
    except ImportError as error:
        raise ConfigError.of(
            "kindaware.ray", expected="Ray Serve", got=str(error), remedy="pip install 'ray[serve]'"
        ) from error
    application: Application = serve.deployment(**options)(TritonReplica).bind(**args)
    return application
