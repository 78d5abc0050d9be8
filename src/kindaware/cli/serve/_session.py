"""One server from its start to its end."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from kindaware._errors import KindAwareError
from kindaware._server.command import read_option
from kindaware._server.failure import ServerError
from kindaware._server.healing.control import decide_to_heal
from kindaware._server.launcher import ALL_MODELS
from kindaware._server.repository import find_models, list_repositories
from kindaware._server.server import STOP_SECONDS, TritonServer
from kindaware._triton.json_lines import LOG_FORMAT
from kindaware.cli._reporting import exit_code
from kindaware.cli._token import TOKEN_VARIABLE
from kindaware.cli.serve._access import ServeAccess
from kindaware.cli.serve._events import EventView
from kindaware.cli.serve._json_log import JsonLog, JsonLogView
from kindaware.cli.serve._log_follower import LogFollower
from kindaware.cli.serve._progress import LoadingProgress
from kindaware.cli.serve._reload import reload_models
from kindaware.cli.serve._signals import StopServing, StopSignals
from kindaware.cli.serve._view import TextView, View
from kindaware.cli.serve._watch import ModelWatch, check_watchable

_POLL_SECONDS = 0.1
_EXIT_SECONDS = 3
"""How long server 2.51 waits at its end: also for a version whose reload failed, which it counts as live."""
_STUCK_SECONDS = 7.0
"""How much longer an end may take: a server that waits for a stub that has ended does not end by itself."""
_DATED = ("--log-format=ISO8601",)
"""For a log in JSON: the server's own format leaves the year out."""


@dataclass(frozen=True)
class ServeOptions:
    """The options of the command, where they are described.

    Attributes:
        repositories: paths, as they were typed.
        tritonserver: the executable, or None.
        access: where the server listens, and who may use what.
        ports: of HTTP, gRPC and the metrics.
        args: for the server.
        kind: of every instance, or None.
        settings: `MODEL.KEY=VALUE` each.
        is_watched: whether models are reloaded when their files change.
        heals: whether models are loaded again when they die; None where the server can.
        max_heals: how often within `heal_window_seconds`.
        heal_window_seconds: as above.
        hang_seconds: how long a call of a model's code may take, or None.
        health_port: of the health page, or None.
        has_examples: whether requests are printed for every model.
        startup_seconds: how long loading may take.
        log_file: where the log goes and stays, or None.
        is_verbose: whether the whole log is printed.
        has_json_log: whether the whole log is printed, in lines of JSON.
        is_json: whether events are printed, and no text.
        max_request_bytes: of a request over HTTP, or None.
        drain_seconds: how long what is in flight may take at the end.
        notice_seconds: how long the server goes on serving after SIGTERM, not ready.
    """

    repositories: tuple[str, ...]
    tritonserver: Path | None
    access: ServeAccess
    ports: tuple[int, int, int]
    args: tuple[str, ...]
    kind: str | None
    settings: tuple[str, ...]
    is_watched: bool
    heals: bool | None
    max_heals: int
    heal_window_seconds: float
    hang_seconds: float | None
    health_port: int | None
    has_examples: bool
    startup_seconds: float
    log_file: Path | None
    is_verbose: bool
    has_json_log: bool
    is_json: bool
    max_request_bytes: int | None
    drain_seconds: float
    notice_seconds: float


def run_server(options: ServeOptions) -> None:
    """Serve until a signal, and exit with the status.

    Raises:
        typer.Exit: always.
    """
    log_path = options.log_file if options.log_file is not None else _make_log_file()
    signals = StopSignals()
    signals.install()
    view: View = EventView(options.settings)
    if not options.is_json:
        shown = JsonLogView if options.has_json_log else TextView
        view = shown(options.settings, has_all_examples=options.has_examples)
    session = Session(options, log_path, view, signals)
    try:
        session.run()
    except StopServing:
        view.stopping()
        status = session.drain()
    except KindAwareError as error:
        view.failed(error, log_path)
        status = exit_code(error)
    finally:
        session.close()
        if options.log_file is None and (status == 0 or not log_path.stat().st_size):
            log_path.unlink()
    view.stopped(status)
    raise typer.Exit(status)


class Session:
    """A server in the foreground, and what is shown of it.

    Args:
        options: of the command.
        log_path: where the server's log goes.
        view: where it is shown.
        signals: that end it.
    """

    def __init__(self, options: ServeOptions, log_path: Path, view: View, signals: StopSignals) -> None:
        self._options = options
        self._signals = signals
        self._view = view
        self._log_path = log_path
        self._repositories: list[str] = []
        self._ports = options.ports
        self._health_port = options.health_port
        self._server: TritonServer | None = None
        self._follower: LogFollower | None = None
        self._watch: ModelWatch | None = None
        self._is_ready = False

    def run(self) -> None:
        """Start the server, print where it is, and wait for its end, which is an error."""
        options = self._options
        self._repositories = list_repositories(options.repositories)
        if options.is_watched:
            check_watchable(self._repositories, options.args)
        if options.is_watched:
            self._watch = ModelWatch(self._repositories)
            self._watch.start()
        server = self._start()
        self._view.ready(server)
        while (returncode := server.poll()) is None:
            server = self._follow_changes(server)
            for reason in server.given_up.values():
                raise ServerError(reason)
            time.sleep(_POLL_SECONDS)
        raise ServerError.of(
            "tritonserver",
            expected="a server that runs until Ctrl-C",
            got=f"its end by itself with status {returncode}",
            remedy="its log says why",
        )

    def drain(self) -> int:
        """Let the server answer what is in flight, and refuse the rest; return the exit code.

        A server that loads its models by itself does that by itself, when it ends.
        """
        server, options = self._server, self._options
        if server is None or not self._is_ready or not _can_unload(options.args):
            return 0
        deadline = time.monotonic() + options.drain_seconds
        try:
            left = server.drain(
                options.drain_seconds,
                notice_seconds=0.0 if self._signals.is_interrupt else options.notice_seconds,
                is_cut_short=self._signals.are_repeated,
                on_wait=lambda models: self._view.draining(models, deadline - time.monotonic()),
            )
        except ServerError as error:
            if server.poll() is not None:  # it has ended meanwhile
                return 0
            self._view.failed(error, self._log_path)
            return exit_code(error)
        if left:
            self._view.cut_off(left)
        return 0

    def close(self) -> None:
        """End all that was started."""
        if self._watch is not None:
            self._watch.close()
            if self._follower is not None:  # that reloads which failed delay the end is no news
                self._follower.close()
        if self._server is not None:
            self._server.stop()
        if self._follower is not None:
            self._follower.close()

    def _start(self) -> TritonServer:
        """Start a server, and show what it does meanwhile."""
        self._is_ready = False
        server = self._server = self._make_server()
        with contextlib.suppress(OSError):  # the server's own check says so
            self._log_path.write_text("")
        self._view.starting(self._repositories)
        self._follower = LogFollower(self._log_path, self._view.write_log)
        if self._options.is_verbose or self._options.has_json_log:
            self._follower.start(JsonLog() if self._options.has_json_log else None)
            server.start()
        else:
            with LoadingProgress(self._log_path, self._view.open_display(find_models(self._repositories))):
                server.start()
            self._follower.start_with_errors(self._view.open_errors())
        self._is_ready = True
        return server

    def _make_server(self) -> TritonServer:
        options = self._options
        http_port, grpc_port, metrics_port = self._ports
        args, stop_seconds = self._options.args, STOP_SECONDS
        if read_option(args, "--exit-timeout-secs") is None:
            # With the models unloaded, it waits for nothing but connections that are kept open.
            seconds = _EXIT_SECONDS if _can_unload(args) else math.ceil(options.drain_seconds)
            args = (f"--exit-timeout-secs={seconds}", *args)
            stop_seconds = seconds + _STUCK_SECONDS
        # No model has to know the token.
        env: dict[str, str | None] = {TOKEN_VARIABLE: None}
        if options.has_json_log:
            args, env = (*_DATED, *args), {**env, LOG_FORMAT: "json"}
        return TritonServer(
            self._repositories,
            tritonserver=options.tritonserver,
            host=options.access.host,
            restricted_apis=options.access.restricted_apis,
            token=options.access.token,
            metrics_host=options.access.metrics_host,
            max_request_bytes=options.max_request_bytes,
            env=env,
            http_port=http_port,
            grpc_port=grpc_port,
            metrics_port=metrics_port,
            args=args,
            startup_timeout_seconds=options.startup_seconds,
            stop_timeout_seconds=stop_seconds,
            log_path=self._log_path,
            kind=options.kind,
            settings=options.settings,
            models=self._list_models(),
            heal=decide_to_heal(options.heals, options.args),
            max_heals=options.max_heals,
            heal_window_seconds=options.heal_window_seconds,
            hang_seconds=options.hang_seconds,
            health_port=self._health_port,
            heal_events=self._view.open_heals(),
        )

    def _list_models(self) -> list[str] | None:
        """Return the models to load; None where the user has said how they are loaded."""
        if read_option(self._options.args, "--model-control-mode") is not None:
            return None
        if any("://" in one for one in self._repositories):
            return [ALL_MODELS]
        return list(find_models(self._repositories))

    def _follow_changes(self, server: TritonServer) -> TritonServer:
        """Reload what has changed; returns the server, which is another one if it had to be started again."""
        changed = [] if self._watch is None else self._watch.take()
        while self._watch is not None and changed:
            if not reload_models(server, changed, self._repositories, self._view):
                self._view.waiting()
                server = self._restart(server, self._watch)
            changed = self._watch.take(code_only=True)
        return server

    def _restart(self, server: TritonServer, watch: ModelWatch) -> TritonServer:
        """Start another server at the same ports, after each change until one does start."""
        if server.health_url:
            self._health_port = int(server.health_url.rpartition(":")[2])
        urls = (server.http_url, server.grpc_url, server.metrics_url)
        self._ports = tuple(int(url.rpartition(":")[2]) for url in urls)  # type: ignore[assignment]  # three
        while True:
            while not watch.take():
                time.sleep(_POLL_SECONDS)
            server.stop()
            if self._follower is not None:
                self._follower.close()
            try:
                server = self._start()
            except ServerError as error:
                self._view.failed(error, self._log_path)
            else:
                self._view.ready_again(server)
                return server


def _can_unload(args: Sequence[str]) -> bool:
    """Return whether the server lets models be unloaded: it does unless the user has said otherwise."""
    return read_option(args, "--model-control-mode") in (None, "explicit")


def _make_log_file() -> Path:
    """Create an empty file in the temporary directory."""
    descriptor, name = tempfile.mkstemp(prefix="kindaware-serve-", suffix=".log")
    os.close(descriptor)
    return Path(name)
