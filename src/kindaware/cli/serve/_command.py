"""`kindaware serve`: the command line."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from kindaware._errors import OptionError
from kindaware._server.healing.budget import MAX_HEALS, WINDOW_SECONDS
from kindaware.cli._kind import ServerKind
from kindaware.cli._shared_options import HangSeconds, HealWindow, PrintsEvents
from kindaware.cli._token import TOKEN_VARIABLE, TokenFile
from kindaware.cli.serve._access import read_access
from kindaware.cli.serve._session import ServeOptions, run_server


class LogFormat(str, Enum):
    """How the log is printed."""

    TEXT = "text"
    JSON = "json"


def serve(
    context: typer.Context,
    repositories: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL_REPOSITORY",
            help="Directories with one directory per model, or a model's directory.",
            show_default=False,
        ),
    ],
    tritonserver: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The tritonserver executable.",
            show_default="the first of: KINDAWARE_TRITONSERVER, tritonserver on PATH, "
            "/opt/tritonserver/bin/tritonserver, the installed nvidia-pytriton wheel",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="The address to listen on; beyond this machine it takes a token, or --insecure.",
            show_default="127.0.0.1",
        ),
    ] = None,
    is_public: Annotated[
        bool, typer.Option("--public", help="Listen on every address; takes a token, or --insecure.")
    ] = False,
    token: Annotated[
        str | None,
        typer.Option(
            envvar=TOKEN_VARIABLE,
            metavar="TOKEN",
            help="What requests must bring, as Authorization: Bearer TOKEN.",
            show_default=False,
        ),
    ] = None,
    token_file: TokenFile = None,
    is_insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine without a token.")
    ] = False,
    allowed: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="API",
            help="Open model-repository, shared-memory, trace, logging, or all of them, to clients; "
            "repeatable.",
            show_default="none of them",
        ),
    ] = None,
    http_port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Port for HTTP; 0 picks a free one.")
    ] = 8000,
    grpc_port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Port for gRPC; 0 picks a free one.")
    ] = 8001,
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Port for metrics; 0 picks a free one.")
    ] = 8002,
    kind: Annotated[
        ServerKind | None,
        typer.Option(
            metavar="CPU",
            help="Put every instance on the CPU, in copies of the configurations, and say so.",
            show_default="where the configurations say",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="MODEL.KEY=VALUE",
            help="Set kindaware.SETTING, parameters.NAME, max_batch_size, instance_group.count or kind, in "
            "copies of the configurations; repeatable.",
            show_default=False,
        ),
    ] = None,
    is_watched: Annotated[
        bool, typer.Option("--watch", help="Reload a model when one of its files changes.")
    ] = False,
    heals: Annotated[
        bool | None,
        typer.Option(
            "--heal/--no-heal",
            help="Load a model again when one of its processes has died.",
            show_default="--heal, unless what follows -- sets another --model-control-mode than explicit",
        ),
    ] = None,
    max_heals: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="How often within --heal-window; then the command ends with status 1."
        ),
    ] = MAX_HEALS,
    heal_window: HealWindow = WINDOW_SECONDS,
    hang_seconds: HangSeconds = None,
    health_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            metavar="PORT",
            help="Port for /livez, /readyz and /healthz; 0 picks a free one.",
            show_default="none",
        ),
    ] = None,
    has_examples: Annotated[
        bool, typer.Option("--examples", help="Print requests with curl and Python for every model.")
    ] = False,
    startup_timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long the models may take to load.")
    ] = 600.0,
    max_request_bytes: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Largest request over HTTP, on servers since mid-2025.",
            show_default="67108864 there; the wheel's server has no limit",
        ),
    ] = None,
    drain_seconds: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="How long requests in flight may take at the end."),
    ] = 30.0,
    notice_seconds: Annotated[
        float,
        typer.Option(
            "--drain-notice-seconds",
            min=0,
            metavar="SECONDS",
            help="How long of these it goes on serving after SIGTERM, for balancers to see that it isn't "
            "ready.",
        ),
    ] = 2.0,
    log_file: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Where to keep the server's log.",
            show_default="a temporary file, removed after a clean end",
        ),
    ] = None,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Print the whole log to the terminal, not only errors and warnings."
        ),
    ] = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(
            help="json prints the whole log, a line of JSON per entry, and lets the instances log so."
        ),
    ] = LogFormat.TEXT,
    is_json: PrintsEvents = False,
) -> None:
    """Serve model repositories with a real tritonserver, in the foreground until Ctrl-C."""
    has_json_log = log_format is LogFormat.JSON
    for option, is_given in (
        ("--verbose", verbose),
        ("--examples", has_examples),
        ("--log-format json", has_json_log),
    ):
        if is_json and is_given:
            raise OptionError.of(
                f"--json with {option}", expected="one of them", got="both", remedy=f"leave {option} out"
            )
    run_server(
        ServeOptions(
            repositories=tuple(repositories),
            tritonserver=tritonserver,
            access=read_access(
                host=host,
                is_public=is_public,
                is_insecure=is_insecure,
                token=token,
                token_file=token_file,
                allowed=allowed or (),
            ),
            ports=(http_port, grpc_port, metrics_port),
            args=tuple(context.obj or ()),
            kind=None if kind is None else kind.value,
            settings=tuple(settings or ()),
            is_watched=is_watched,
            heals=heals,
            max_heals=max_heals,
            heal_window_seconds=heal_window,
            hang_seconds=hang_seconds,
            health_port=health_port,
            has_examples=has_examples,
            startup_seconds=startup_timeout,
            log_file=log_file,
            is_verbose=verbose,
            has_json_log=has_json_log,
            is_json=is_json,
            max_request_bytes=max_request_bytes,
            drain_seconds=drain_seconds,
            notice_seconds=notice_seconds,
        )
    )
