"""A watch over one server's address, whichever process listens there."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import typer

from kindaware._errors import OptionError
from kindaware._execute.beat import BEATS
from kindaware._server.endpoint import Endpoint
from kindaware._server.failure import LostStubError, ServerError
from kindaware._server.grpc_load import check_grpc, load_over_grpc
from kindaware._server.healing.budget import HealLimit
from kindaware._server.healing.events import HealEvents
from kindaware._server.healing.guard import Guard, GuardOptions
from kindaware._server.healing.health import HealthBook
from kindaware._server.healing.health_page import HealthPage
from kindaware._server.healing.neighbour import check_server, find_server
from kindaware._server.healing.stubs import is_running
from kindaware._server.readiness import watch_load
from kindaware._server.stub_watch import LONG_GRACE_SECONDS, StubWatch
from kindaware.cli._heal_lines import HealJson, HealText
from kindaware.cli.serve._events import print_lines, write_event

_POLL_SECONDS = 0.2
_HTTP_PORT, _GRPC_PORT, _METRICS_PORT = 8000, 8001, 8002


@dataclass(frozen=True)
class WatchOptions:
    """The options of the command, where they are described.

    Attributes:
        url: of the server.
        host: of the health page.
        port: of the health page.
        pid: of the server, or None.
        heals: whether dead models are loaded again.
        max_heals: how often within `heal_window_seconds`.
        heal_window_seconds: as above.
        hang_seconds: how long a call of a model's code may take, or None.
        beats: where instances tell since when their code runs, or None.
        metrics_url: of the server's metrics, or None.
        grpc_url: of its gRPC, or None.
        headers: `NAME=VALUE` each, of every request.
        ends_on_give_up: whether the command ends when a model is given up.
        is_json: whether events are printed, and no text.
    """

    url: str
    host: str
    port: int
    pid: int | None
    heals: bool
    max_heals: int
    heal_window_seconds: float
    hang_seconds: float | None
    beats: Path | None
    metrics_url: str | None
    grpc_url: str | None
    headers: tuple[str, ...]
    ends_on_give_up: bool
    is_json: bool


class StopWatching(BaseException):
    """The user, or the system, asked for the end."""


def watch_server(options: WatchOptions) -> None:
    """Watch until a signal.

    Raises:
        ServerError: the server can't be watched, or a model was given up and that is the end.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    if options.heals:
        check_grpc()
    health = HealthBook()
    page = HealthPage(options.host, options.port, health)
    page.start()
    session = _Session(options, health)
    session.tell("listening", f"health: http://{options.host}:{page.port}/healthz", port=page.port)
    try:
        session.run()
    except StopWatching:
        session.tell("stopped", "stopped")
    finally:
        session.close()
        page.close()


class _Session:
    """One server after the other at an address.

    Args:
        options: of the command.
        health: where the state of each model is noted.
    """

    def __init__(self, options: WatchOptions, health: HealthBook) -> None:
        self._options = options
        self._health = health
        self._host, self._port = _split(options.url)
        self._headers = dict(map(_read_header, options.headers))
        self._endpoint = Endpoint(f"{self._host}:{self._port}", self._headers)
        self._metrics = Endpoint(_join(options.metrics_url, self._host, _METRICS_PORT))
        self._grpc = _join(options.grpc_url, self._host, _GRPC_PORT)
        self._guard: Guard | None = None

    def run(self) -> None:
        """Watch, until a signal or an error."""
        while True:
            pid = self._wait_for_server()
            guard = self._guard = self._make_guard(pid)
            guard.start()
            self.tell("watching", f"watching process {pid} at {self._host}:{self._port}", pid=pid)
            while is_running(pid):
                for reason in guard.given_up.values():
                    if self._options.ends_on_give_up:
                        raise ServerError(reason)
                time.sleep(_POLL_SECONDS)
            self.close()
            self._health.forget("the server has ended")
            self.tell("ended", f"process {pid} has ended; waiting for another", pid=pid)

    def close(self) -> None:
        """Watch no more."""
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    def tell(self, event: str, text: str, **fields: object) -> None:
        """Print what has happened."""
        if self._options.is_json:
            print_lines(write_event(event, **fields))
        else:
            typer.echo(text, err=True)

    def _wait_for_server(self) -> int:
        """Return the process of a server that is live."""
        options = self._options
        while True:
            is_live = self._endpoint.is_live()
            pid = find_server(self._port) if options.pid is None else options.pid
            if is_live and pid is None:
                raise ServerError.of(
                    f"tritonserver at {self._host}:{self._port}",
                    expected="its process, to watch its stubs",
                    got="none that this command sees",
                    remedy="run it on the same machine and in the same PID namespace (Kubernetes: "
                    "shareProcessNamespace: true; docker: --pid=container:NAME), or name it with --pid",
                )
            if is_live and pid is not None:
                check_server(pid, heals=options.heals)
                return pid
            self._health.note_server("the server is not live yet")
            time.sleep(_POLL_SECONDS)

    def _make_guard(self, pid: int) -> Guard:
        options = self._options
        beats = options.beats or _read_beats(pid)
        events: HealEvents = HealText(lambda text, level="info": typer.echo(text, err=True))
        if options.is_json:
            events = HealJson(lambda event, **fields: print_lines(write_event(event, **fields)))
        return Guard(
            pid,
            self._endpoint,
            self._make_load(pid),
            GuardOptions(
                HealLimit(options.max_heals, options.heal_window_seconds),
                options.hang_seconds,
                beats,
                heals=options.heals,
            ),
            events,
            self._health,
            self._metrics.metrics,
        )

    def _make_load(self, pid: int) -> Callable[[str], None]:
        """Return what loads a model."""

        def load(model: str) -> None:
            guard = self._guard
            is_others = lambda stub: guard is not None and guard.owner(stub) not in (None, model)  # noqa: E731
            stubs = StubWatch(pid, LONG_GRACE_SECONDS, is_others)

            def check() -> None:
                if stubs.has_lost_stub():
                    raise LostStubError.of(
                        f"load of model {model!r}",
                        expected="its end",
                        got="the end of a stub that the server goes on waiting for",
                        remedy="look at its model.py, and start the server again",
                    )

            watch_load(lambda: load_over_grpc(self._grpc, model, self._headers), model, check)

        return load


def _read_beats(pid: int) -> Path:
    """Return the folder of the beats that a server's environment names; one that doesn't exist for none."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        words = []
    named = [word.partition("=")[2] for word in words if word.startswith(f"{BEATS}=")]
    return Path(named[-1] if named and named[-1] else os.devnull)


def _read_header(text: str) -> tuple[str, str]:
    """Return name and value of a header."""
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise OptionError.of("--header", expected="NAME=VALUE", got=repr(text), remedy="correct it")
    return name, value


def _join(url: str | None, host: str, port: int) -> str:
    """Return the address that was given, or this one."""
    host, port = (host, port) if url is None else _split(url)
    return f"{host}:{port}"


def _split(url: str) -> tuple[str, int]:
    """Return host and port of an address."""
    host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
    if not host and not port.isdigit():
        host, port = port, str(_HTTP_PORT)
    if not port.isdigit() or "/" in host or "@" in host:
        raise OptionError.of(
            "URL",
            expected="the address of a server's HTTP, such as localhost:8000",
            got=repr(url),
            remedy="correct it",
        )
    return host or "localhost", int(port)


def _stop(number: int, frame: FrameType | None) -> None:
    raise StopWatching
