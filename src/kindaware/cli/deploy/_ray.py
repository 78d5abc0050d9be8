"""`kindaware deploy ray`: the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from kindaware.cli._kind import ServerKind
from kindaware.cli._shared_options import PrintsLine


def deploy_ray(
    repositories: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL_REPOSITORY",
            help="Directories with one directory per model, at the same path on every node.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Where to write serve.yaml.", show_default=False
        ),
    ],
    replicas: Annotated[
        int, typer.Option(metavar="N", help="Number of replicas; the fewest with --max-replicas.")
    ] = 1,
    max_replicas: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Scale up to so many by the requests that wait in the servers.",
            show_default="a fixed number",
        ),
    ] = None,
    target_pending: Annotated[
        float,
        typer.Option(
            metavar="N", help="Requests that may wait in each server before there are more replicas."
        ),
    ] = 8.0,
    cpus: Annotated[
        float, typer.Option(metavar="N", help="CPU cores per replica, which its CPU instances share.")
    ] = 1.0,
    gpus: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="GPUs per replica; a part of one below 1.",
            show_default="1 if a model has KIND_GPU, else 0",
        ),
    ] = None,
    drain_seconds: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="How long a replica that is to end answers what it has."),
    ] = 30.0,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the application.")] = "models",
    route_prefix: Annotated[
        str, typer.Option(metavar="PATH", help="Prefix of the requests' paths over HTTP.")
    ] = "/",
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="The address that each node listens on; 0.0.0.0 is every one."),
    ] = "127.0.0.1",
    http_port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="PORT", help="Port for HTTP on each node.")
    ] = 8000,
    kind: Annotated[
        ServerKind | None,
        typer.Option(
            metavar="CPU",
            help="Put every instance on the CPU.",
            show_default="where the configurations say",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="MODEL.KEY=VALUE",
            help="Set something over the configurations, as kindaware serve does; repeatable.",
            show_default=False,
        ),
    ] = None,
    is_forced: Annotated[
        bool, typer.Option("--force", help="Overwrite serve.yaml; other files of FOLDER stay.")
    ] = False,
    is_json: PrintsLine = False,
) -> None:
    """Write a Serve config whose replicas each run a tritonserver with the models."""
    # Here, since the help does without a YAML library.
    from kindaware._authoring.scaffold import check_free, write_directories
    from kindaware._server.config_changes import parse_settings
    from kindaware._server.repository import check_models, find_models, list_repositories
    from kindaware._server.repository_digest import digest_repositories
    from kindaware.ray._models import check_fits, needs_gpu
    from kindaware.ray._plan import Plan
    from kindaware.ray._serve_config import FILE, write_serve_config

    check_free(output, force=is_forced)
    found = list_repositories(repositories)
    check_models(found)
    parse_settings(settings or (), list(find_models(found)))
    if gpus is None:
        gpus = float(kind is None and needs_gpu(found))
    plan = Plan(
        replicas=replicas,
        max_replicas=max_replicas,
        target_pending=target_pending,
        cpus=cpus,
        gpus=gpus,
        drain_seconds=drain_seconds,
    )
    check_fits(found, plan, is_on_cpu=kind is not None)
    digest = digest_repositories(found)
    text = write_serve_config(
        found,
        plan,
        digest=digest,
        name=name,
        route_prefix=route_prefix,
        host=host,
        port=http_port,
        kind=None if kind is None else kind.value,
        settings=settings or (),
    )
    write_directories({output: {FILE: text}}, force=is_forced)
    path = output / FILE
    models = sorted(find_models(found))
    if is_json:
        typer.echo(json.dumps({"files": [str(path)], "models": models, "digest": digest}))
        return
    typer.echo(f"wrote {path}: {', '.join(models)}")
    typer.echo(f"  serve run {path}      on this machine")
    typer.echo(f"  serve deploy {path}   on a running cluster")
