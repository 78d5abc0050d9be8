"""`kindaware serve`: a server in the foreground."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from kindaware._errors import KindAwareError
from kindaware._server.failure import ServerError
from kindaware._server.server import TritonServer
from kindaware.cli._block import write_block
from kindaware.cli._log_follower import LogFollower

_POLL_SECONDS = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Kind(str, Enum):
    """What --kind takes."""

    CPU = "CPU"


class StopServing(BaseException):
    """The user, or the system, asked the server to stop."""


def serve(
    context: typer.Context,
    repositories: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL_REPOSITORY...",
            help="Directories that have one directory per model.",
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
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 is all.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(help="Port of HTTP; 0 picks a free one.")] = 8000,
    grpc_port: Annotated[int, typer.Option(help="Port of gRPC; 0 picks a free one.")] = 8001,
    metrics_port: Annotated[int, typer.Option(help="Port of the metrics; 0 picks a free one.")] = 8002,
    kind: Annotated[
        Kind | None,
        typer.Option(
            help="Put every instance on the CPU, in copies of the configurations, and say so.",
            show_default="where the configurations say",
        ),
    ] = None,
    startup_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long loading the models may take.")
    ] = 600.0,
    log_file: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Where the server's log goes.",
            show_default="a temporary file, removed after a clean end",
        ),
    ] = None,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Print the whole log to the terminal, not only errors and warnings."
        ),
    ] = False,
) -> None:
    """Serve model repositories with a real tritonserver, in the foreground until Ctrl-C."""
    log_path = log_file if log_file is not None else _make_log_file()
    server = TritonServer(
        repositories,
        tritonserver=tritonserver,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        args=context.obj or (),
        startup_timeout_seconds=startup_timeout,
        log_path=log_path,
        kind=None if kind is None else kind.value,
    )
    for number in _SIGNALS:
        signal.signal(number, _stop_once)
    follower = LogFollower(log_path)
    try:
        if verbose:
            follower.start()
        if sys.stderr.isatty():  # for somebody who waits, not for a log
            typer.echo("starting Triton and loading the models ...", err=True)
        server.start()
        if not verbose:
            follower.start_with_errors()
        _run(server)
    except StopServing:
        typer.echo("stopping the server ...", err=True)
        server.stop()
        status = 0
    except KindAwareError as error:
        _report(error, log_path)
        status = 1
    finally:
        server.stop()
        follower.close()
    if log_file is None and (status == 0 or not log_path.stat().st_size):
        log_path.unlink()
    raise typer.Exit(status)


def _run(server: TritonServer) -> None:
    """Print where a server is, and wait for its end, which is an error."""
    typer.echo(write_block(server))
    while (returncode := server.poll()) is None:
        time.sleep(_POLL_SECONDS)
    raise ServerError.of(
        "tritonserver",
        expected="a server that runs until Ctrl-C",
        got=f"its end by itself with status {returncode}",
        remedy="its log says why",
    )


def _report(error: KindAwareError, log_path: Path) -> None:
    """Print what went wrong, and where the whole log is."""
    typer.echo(f"kindaware serve: {error}", err=True)
    if log_path.exists() and log_path.stat().st_size:
        typer.echo(f"\nthe whole log: {log_path}", err=True)


def _make_log_file() -> Path:
    """Create an empty file in the temporary directory."""
    descriptor, name = tempfile.mkstemp(prefix="kindaware-serve-", suffix=".log")
    os.close(descriptor)
    return Path(name)


def _stop_once(number: int, frame: FrameType | None) -> None:
    """Turn the first signal into an exception; the next ones do not disturb the clean end."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise StopServing
