"""`kindaware watch`: the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kindaware._server.healing.budget import MAX_HEALS, WINDOW_SECONDS
from kindaware.cli._shared_options import HangSeconds, HealWindow, PrintsEvents
from kindaware.cli.watch._session import WatchOptions, watch_server


def watch(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="HTTP address of the server, such as localhost:8000.")
    ] = "localhost:8000",
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address of the health page; 0.0.0.0 is every one.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Its port; 0 picks a free one.")
    ] = 8003,
    pid: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="PID",
            help="The server's process.",
            show_default="the tritonserver whose --http-port is the URL's",
        ),
    ] = None,
    heals: Annotated[
        bool, typer.Option("--heal/--no-heal", help="Load dead models again, or only tell of them.")
    ] = True,
    max_heals: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="How often within --heal-window; then a model is given up."),
    ] = MAX_HEALS,
    heal_window: HealWindow = WINDOW_SECONDS,
    hang_seconds: HangSeconds = None,
    beats: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The folder that the server's KINDAWARE_BEATS names.",
            show_default="what the server's environment says, if it can be read",
        ),
    ] = None,
    grpc_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Address of its gRPC, to load models.",
            show_default="the URL's host, port 8001",
        ),
    ] = None,
    metrics_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Address of its metrics.", show_default="the URL's host, port 8002"),
    ] = None,
    headers: Annotated[
        list[str] | None,
        typer.Option(
            "--header",
            metavar="NAME=VALUE",
            help="What a server that restricts its APIs wants; repeatable.",
            show_default=False,
        ),
    ] = None,
    ends: Annotated[
        bool,
        typer.Option(
            "--exit-on-give-up", help="End with status 1 when a model is given up, not only /livez with 503."
        ),
    ] = False,
    is_json: PrintsEvents = False,
) -> None:
    """Load dead models of a tritonserver on this machine again, and tell over HTTP which are healthy."""
    watch_server(
        WatchOptions(
            url=url,
            host=host,
            port=port,
            pid=pid,
            heals=heals,
            max_heals=max_heals,
            heal_window_seconds=heal_window,
            hang_seconds=hang_seconds,
            beats=beats,
            metrics_url=metrics_url,
            grpc_url=grpc_url,
            headers=tuple(headers or ()),
            ends_on_give_up=ends,
            is_json=is_json,
        )
    )
