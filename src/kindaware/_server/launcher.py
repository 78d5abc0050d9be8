"""One start of a server: everything that can be checked first, then the process."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kindaware._execute.beat import BEATS
from kindaware._server.access import Access
from kindaware._server.command import prepare_launch, read_option
from kindaware._server.config_changes import ConfigChanges, parse_settings
from kindaware._server.failure import ServerError, ServerOptionError
from kindaware._server.interpreter import Interpreter
from kindaware._server.location import Location, locate_server
from kindaware._server.ports import choose_ports
from kindaware._server.process import ServerProcess
from kindaware._server.repository import check_models, find_models, list_repositories
from kindaware._server.repository_links import (
    RepositoryLinks,
    check_shell_safe,
    describe_moves,
    is_shell_safe,
)
from kindaware._triton.end_of_server import VARIABLE

ALL_MODELS = "*"
"""In place of names: every model of the repositories, also of those on other machines."""


@dataclass(frozen=True)
class ServerOptions:
    """The arguments of `TritonServer`, where they are described.

    Args:
        repository: one or several paths.
        tritonserver: path of the executable, or None.
        python: path of the interpreter, or None.
        host: the address to listen on.
        ports: by the name of their option, 0 for a free one.
        models: None for all, or those to load.
        args: further arguments for the server.
        env: variables to set, or with None to remove.
        exit_on_error: whether a model that fails ends the server.
        stop_seconds: how long a clean end may take.
        log_path: where the log is to stay, or None.
        on_cpu: whether every instance is to be on the CPU, whatever its configuration says.
        orphans: directories to remove if this process is killed.
        settings: `MODEL.KEY=VALUE` each, over what the configurations say.
        access: who may use which API.
        metrics_host: the address at which the metrics listen, or None for `host`.
        max_request_bytes: of a request over HTTP, or None for what the server sets.
        has_beats: whether instances tell since when their code runs.
    """

    repository: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
    tritonserver: str | os.PathLike[str] | None
    python: str | os.PathLike[str] | None
    host: str
    ports: Mapping[str, int]
    models: tuple[str, ...] | None
    args: tuple[str, ...]
    env: Mapping[str, str | None]
    exit_on_error: bool
    stop_seconds: float
    log_path: Path | None
    on_cpu: bool
    orphans: tuple[Path, ...] = ()
    settings: tuple[str, ...] = ()
    access: Access = field(default_factory=Access)
    metrics_host: str | None = None
    max_request_bytes: int | None = None
    has_beats: bool = False


@dataclass(frozen=True)
class StartedServer:
    """A server that was started, ready or not.

    Args:
        process: which owns it.
        location: which server it is.
        ports: by the name of their option.
        log_path: what it writes its log to.
        repositories: the user's, checked.
        links: what it has got in place of them.
        end_streams: a file that kindaware's instances take for the word to end their streams.
        beats: the folder in which instances tell since when their code runs, if they do.
    """

    process: ServerProcess
    location: Location
    ports: Mapping[str, int]
    log_path: Path
    repositories: Sequence[str]
    links: RepositoryLinks
    end_streams: Path
    beats: Path


def launch_server(options: ServerOptions) -> StartedServer:
    """Check and start; does not wait for the server.

    Raises:
        ServerError: it can't be started.
    """
    if not sys.platform.startswith("linux"):
        raise ServerError.of(
            "tritonserver",
            expected="Linux",
            got=sys.platform,
            remedy="run this in a Linux container or virtual machine",
        )
    options.access.check_args(options.args)
    location = locate_server(options.tritonserver)
    if options.max_request_bytes is not None and location.is_wheel:
        raise ServerOptionError.of(
            "max_request_bytes (--max-request-bytes)",
            expected="a server that can limit requests, since mid-2025",
            got="Triton 2.51 of the wheel, which does not",
            remedy="leave it out, and have a proxy limit them: examples/scale_out/envoy_config.py does",
        )
    repositories = list_repositories(options.repository, may_be_empty=options.models is not None)
    _check_models(options, location, repositories)
    changes = ConfigChanges(options.on_cpu, parse_settings(options.settings, list(find_models(repositories))))
    if location.is_wheel:
        check_shell_safe(repositories)
    interpreter = Interpreter.probe(options.python)
    hosts = {} if options.metrics_host is None else {"--metrics-port": options.metrics_host}
    ports = choose_ports(options.host, options.ports, hosts)
    temporary = tempfile.gettempdir()
    directory = Path(
        tempfile.mkdtemp(prefix="kindaware-server-", dir=temporary if is_shell_safe(temporary) else "/tmp")
    )
    try:
        links = RepositoryLinks(repositories, directory, changes)
        end_streams = directory / "end-streams"
        environment = _merge_environment({**options.env, VARIABLE: str(end_streams)})
        beats = directory / "beats"
        if options.has_beats:
            beats.mkdir()
            environment[BEATS] = str(beats)
        launch = prepare_launch(
            location,
            interpreter,
            directory,
            links=links,
            options=_write_options(options, ports),
            args=options.args,
            environment=environment,
        )
        log_path = options.log_path or directory / "server.log"
        note = describe_moves(repositories) if options.on_cpu else ""
        _make_log(log_path, note)
        process = ServerProcess(
            launch,
            directory=directory,
            log_path=log_path,
            stop_seconds=options.stop_seconds,
            orphans=options.orphans,
        )
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return StartedServer(process, location, ports, log_path, repositories, links, end_streams, beats)


def _check_models(options: ServerOptions, location: Location, repositories: Sequence[str]) -> None:
    """Refuse what can't be loaded, unless the server gets over it.

    Without `exit_on_error` servers from 25.08 on get over a stub that ends; that of the wheel waits for it.
    """
    loads_these = read_option(options.args, "--model-control-mode") in (None, "none")
    if loads_these and (options.exit_on_error or location.is_wheel):
        models = None if options.models == (ALL_MODELS,) else options.models
        check_models(repositories, models, code_only=not options.exit_on_error)


def _write_options(options: ServerOptions, ports: Mapping[str, int]) -> list[str]:
    """Return the server's options, except those that depend on the machine."""
    written = [f"{option}={port}" for option, port in ports.items()]
    written += [f"--http-address={options.host}", f"--grpc-address={options.host}"]
    if options.metrics_host is not None:
        written.append(f"--metrics-address={options.metrics_host}")
    if options.max_request_bytes is not None:
        written.append(f"--http-max-input-size={options.max_request_bytes}")
    written += options.access.options()
    written.append(f"--exit-on-error={'true' if options.exit_on_error else 'false'}")
    if options.models is not None:
        written.append("--model-control-mode=explicit")
        written += [f"--load-model={model}" for model in options.models]
    return written


def _merge_environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return this process's environment with changes; None removes a variable."""
    merged = {**os.environ, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _make_log(path: Path, note: str) -> None:
    """Create the log file, with the note as its first line; the note is logged in this process as well."""
    try:
        path.write_text(f"kindaware: {note}\n" if note else "")
    except OSError as error:
        raise ServerError.of(
            f"log file {path}", expected="a file to write", got=str(error), remedy="choose another path"
        ) from error
    if note:
        logging.getLogger("kindaware.server").warning("kindaware: %s", note)
