"""A real tritonserver for as long as a `with` block lasts."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from kindaware._server import log as _log
from kindaware._server.access import Access
from kindaware._server.command import read_option
from kindaware._server.drain import Drain
from kindaware._server.endpoint import HEALTH_SECONDS, Endpoint, ModelStatus
from kindaware._server.failure import ServerError, ServerOptionError
from kindaware._server.grpc_load import check_grpc, load_over_grpc
from kindaware._server.healing.budget import MAX_HEALS, WINDOW_SECONDS, HealLimit
from kindaware._server.healing.control import check_can_load
from kindaware._server.healing.events import HealEvents, LoggedEvents
from kindaware._server.healing.guard import Guard, GuardOptions
from kindaware._server.healing.health import HealthBook, ModelHealth
from kindaware._server.healing.health_page import HealthPage
from kindaware._server.healing.stuck_models import StuckModels
from kindaware._server.launcher import ALL_MODELS, ServerOptions, StartedServer, launch_server
from kindaware._server.location import Location
from kindaware._server.readiness import LoadWatch
from kindaware._server.repository import check_models, find_models
from kindaware._server.stub_watch import GRACE_SECONDS, LONG_GRACE_SECONDS

STOP_SECONDS = 40.0
"""How long a clean end may take: longer than server 2.51 waits for requests, which is 30 s."""
_DRAINED_SECONDS = 6.0
"""How long the end of a server may take that has nothing in flight any more."""
_ATTEMPTS = 3


class TritonServer:
    """A tritonserver on one or several model repositories.

    Use it in a `with` statement, or call `start` and `stop`. It ends with this process, however that ends.
    `kindaware serve` runs one in the foreground; tests know it as `kindaware.testing.TritonServer`.

    Args:
        repository: a directory with one directory per model, or several such directories.
        tritonserver: path of the executable; by default the first of: that in `KINDAWARE_TRITONSERVER`,
            `tritonserver` on PATH, /opt/tritonserver/bin/tritonserver, the one in the installed
            `nvidia-pytriton` wheel.
        python: the interpreter whose packages the models use; by default the running one.
        host: the address to listen on.
        http_port: 0 picks a free one, for this and the others.
        grpc_port: as above.
        metrics_port: as above.
        models: None loads all models; a list turns explicit model control on and loads those.
        args: further arguments for the server; they win over the defaults.
        env: environment variables to set or, with None as value, to remove.
        exit_on_error: a model that does not load is an error; else the server serves the others.
        startup_timeout_seconds: how long loading the models may take.
        stop_timeout_seconds: how long a clean end may take before the server is killed.
        log_path: where the log goes, and stays; by default it ends with the server, and only `log_text`
            remembers it.
        kind: `CPU` puts every instance on the CPU, whatever the configurations say, in copies of them; a
            warning says so at each start.
        orphans: directories of yours to remove if this process is killed, and can't do it.
        settings: over what the models' configurations say, in copies of them, as
            `MODEL.kindaware.precision=bf16-true`, `MODEL.parameters.NAME=VALUE`, or a field such as
            `MODEL.instance_group.count=2`.
        restricted_apis: `model-repository`, `shared-memory`, `trace` or `logging`, which then only requests
            with `headers` may use; this object's own have them.
        token: that every request but those of `health` must bring, as `Authorization: Bearer TOKEN`, and over
            gRPC in `triton-grpc-protocol-authorization`.
        metrics_host: the address at which the metrics listen, which need no token; `host` by default.
        max_request_bytes: largest request over HTTP, on servers since mid-2025; 64 MiB by default there.
        heal: unload a model at once when one of its processes dies, and load it again; turns explicit model
            control on, with all models if `models` is None.
        max_heals: how often within `heal_window_seconds`; the next time the model is given up and stays
            unloaded, see `given_up`.
        heal_window_seconds: as above.
        hang_seconds: with `heal`, how long a call of a model's code may take until its process is killed; by
            default any time.
        health_port: with `heal`, where `/livez`, `/readyz`, `/healthz` and `/metrics` tell of the models'
            health; 0 picks a free one, see `health_url`.
        heal_events: is told what happens; by default the logger `kindaware.server`.
    """

    def __init__(
        self,
        repository: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        tritonserver: str | os.PathLike[str] | None = None,
        python: str | os.PathLike[str] | None = None,
        host: str = "127.0.0.1",
        http_port: int = 0,
        grpc_port: int = 0,
        metrics_port: int = 0,
        models: Sequence[str] | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str | None] | None = None,
        exit_on_error: bool = True,
        startup_timeout_seconds: float = 300.0,
        stop_timeout_seconds: float = STOP_SECONDS,
        log_path: str | os.PathLike[str] | None = None,
        kind: str | None = None,
        orphans: Sequence[str | os.PathLike[str]] = (),
        settings: Sequence[str] = (),
        restricted_apis: Sequence[str] = (),
        token: str | None = None,
        metrics_host: str | None = None,
        max_request_bytes: int | None = None,
        heal: bool = False,
        max_heals: int = MAX_HEALS,
        heal_window_seconds: float = WINDOW_SECONDS,
        hang_seconds: float | None = None,
        health_port: int | None = None,
        heal_events: HealEvents | None = None,
    ) -> None:
        if kind not in (None, "CPU"):
            raise ServerError.of(
                "kind",
                expected="CPU, or none",
                got=repr(kind),
                remedy="for other kinds change the instance_group of config.pbtxt",
            )
        if heal:
            check_can_load(args)
            check_grpc()
            if models is None and read_option(args, "--model-control-mode") is None:
                models = [ALL_MODELS]
        elif hang_seconds is not None or health_port is not None:
            raise ServerOptionError.of(
                "hang_seconds" if health_port is None else "health_port",
                expected="heal=True with it",
                got="heal=False",
                remedy="add it",
            )
        self._guard_limits = (HealLimit(max_heals, heal_window_seconds), hang_seconds) if heal else None
        self._health_port = health_port
        self._heal_events = heal_events or LoggedEvents()
        self._options = ServerOptions(
            repository=repository if isinstance(repository, (str, os.PathLike)) else tuple(repository),
            tritonserver=tritonserver,
            python=python,
            host=host,
            ports={"--http-port": http_port, "--grpc-port": grpc_port, "--metrics-port": metrics_port},
            models=None if models is None else tuple(models),
            args=tuple(args),
            env=dict(env or {}),
            exit_on_error=exit_on_error,
            stop_seconds=stop_timeout_seconds,
            log_path=None if log_path is None else Path(log_path).absolute(),
            on_cpu=kind == "CPU",
            orphans=tuple(Path(path).absolute() for path in orphans),
            settings=tuple(settings),
            access=Access(tuple(restricted_apis), token),
            metrics_host=metrics_host,
            max_request_bytes=max_request_bytes,
            has_beats=hang_seconds is not None,
        )
        self._startup_timeout_seconds = startup_timeout_seconds
        self._server: StartedServer | None = None
        self._guard: Guard | None = None
        self._page: HealthPage | None = None
        self._health = HealthBook()
        self._ports: dict[str, int] = {}
        self._log = ""
        self._end_seconds: float | None = None
        self.returncode: int | None = None

    def __enter__(self) -> TritonServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "not running" if self._server is None else f"pid {self.pid}, http {self.http_url}"
        return f"<TritonServer {self._options.repository!r}: {state}>"

    def start(self) -> TritonServer:
        """Start the server; waits until loading is over.

        Raises:
            ServerError: it can't be started, ends before it is ready, or takes too long. The message has what
                the failed models said, and the end of the log; the server is stopped.
        """
        if self._server is not None:
            raise ServerError.of(
                "TritonServer",
                expected="one start",
                got="a second",
                remedy="call stop() first, or make another",
            )
        for attempt in range(1, _ATTEMPTS + 1):
            self._end_seconds = None
            self._server = launch_server(self._options)
            self._ports = dict(self._server.ports)
            try:
                self.wait_ready()
                break
            except BaseException as error:
                self.stop()
                if attempt == _ATTEMPTS or not self._lost_a_port(error):
                    raise
        try:
            self._start_guard(self._running())
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, *, drain_seconds: float | None = None, drain_notice_seconds: float = 0.0) -> None:
        """End the server and all its processes, and remove its files; waits for that.

        A second call does nothing. The log is remembered by `log_text`.

        Args:
            drain_seconds: how long what is in flight may take; see `drain`. By default the server gets
                SIGTERM at once, and ends as it does by itself.
            drain_notice_seconds: see `drain`.

        Raises:
            ServerError: it is to drain, and can't; it goes on running.
        """
        server = self._server
        if server is None:
            return
        if drain_seconds is not None and self.poll() is None:
            self.drain(drain_seconds, notice_seconds=drain_notice_seconds)
        num_stuck, loads = self._end_guard("the server ends")
        if self._page is not None:
            self._page.close()
            self._page = None
        try:
            with StuckModels(num_stuck, loads, server.process.pid, server.log_path):
                self.returncode = server.process.end(self._end_seconds)
            self._log = _read_log(server)
        finally:
            self._server = None
            server.process.clean()

    def drain(
        self,
        seconds: float,
        *,
        notice_seconds: float = 0.0,
        is_cut_short: Callable[[], bool] = lambda: False,
        on_wait: Callable[[Collection[str]], None] = lambda models: None,
    ) -> list[str]:
        """Take the server out of service, before `stop`; needs explicit model control.

        Its readiness turns to no at once. After the time of notice its models are unloaded, callers before
        those that they call: it refuses new requests to them, and waits until it has answered those in
        flight and all streams have ended. `stop` then has nothing to wait for, and takes at most 6 s.

        Args:
            seconds: for all of it.
            notice_seconds: how long it goes on serving, for balancers to see that it is not ready.
            is_cut_short: asked again and again; once it returns True, the rest is left out.
            on_wait: called with the models that are waited for, whenever these change.

        Returns:
            The models that had requests in flight when the time was up; these get no answer.

        Raises:
            ServerError: the server can't unload models, or can't be reached.
        """
        server = self._running()
        if self._options.models is None and self._control_mode() != "explicit":
            raise ServerError.of(
                "drain",
                expected="a server with explicit model control",
                got=f"one with --model-control-mode={self._control_mode() or 'none'}",
                remedy="name its models: TritonServer(..., models=[...])",
            )
        self._end_guard("the server is draining")
        folders = find_models(server.repositories)
        drain = Drain(
            self._endpoint(),
            folders,
            server.end_streams,
            seconds=seconds,
            notice_seconds=notice_seconds,
            dead=() if self._guard is None else self._guard.dead,
            is_cut_short=is_cut_short,
            on_wait=on_wait,
        )
        self._end_seconds = _DRAINED_SECONDS
        return drain.run()

    def _end_guard(self, why: str) -> tuple[int, bool]:
        """Heal no more.

        Returns:
            How many dead models the server can't give back, and whether one was being loaded.
        """
        if self._guard is None:
            return 0, False
        self._guard.close()
        self._health.note_server(why)
        found = self._guard.count_stuck(), self._guard.loads
        self._guard.end_loads()
        return found

    def wait_ready(self, timeout_seconds: float | None = None) -> None:
        """Wait until the server is live and loading is over; models that say they are not ready are loaded.

        Args:
            timeout_seconds: by default the server's start-up time.

        Raises:
            ServerError: it has ended, a stub has without the server noticing, or the time is over.
        """
        limit = self._startup_timeout_seconds if timeout_seconds is None else timeout_seconds
        self._watch().wait_until_loaded(self._endpoint(), limit)

    def poll(self) -> int | None:
        """Return the server's exit status, or None while it runs."""
        return self.returncode if self._server is None else self._server.process.poll()

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._running().process.pid

    @property
    def http_url(self) -> str:
        """Host and port of HTTP, without a scheme, as Triton's clients take it."""
        return self._address("--http-port")

    @property
    def grpc_url(self) -> str:
        """Host and port of gRPC."""
        return self._address("--grpc-port")

    @property
    def metrics_url(self) -> str:
        """Host and port of the metrics, which are at `/metrics`."""
        return self._address("--metrics-port")

    @property
    def host(self) -> str:
        """The address that HTTP and gRPC listen on."""
        return self._options.host

    @property
    def needs_token(self) -> bool:
        """Whether requests need the token."""
        return self._options.access.token is not None

    @property
    def headers(self) -> Mapping[str, str]:
        """What a request over HTTP needs to use every API; empty where none is restricted. Keep it secret."""
        return self._options.access.headers()

    @property
    def health_url(self) -> str:
        """Host and port of the health page; empty without `health_port`."""
        return "" if self._page is None else _join(self._options.host, self._page.port)

    @property
    def location(self) -> Location:
        """Which server it is, and how it was found."""
        return self._running().location

    @property
    def log_path(self) -> Path:
        """The file that the server writes its log to."""
        return self._running().log_path

    @property
    def server_version(self) -> str:
        """The server's version, such as `2.51.0`."""
        return self._endpoint().version()

    def log_text(self) -> str:
        """Return all that the server and its models have printed; also after the end."""
        return self._log if self._server is None else _read_log(self._server)

    def instances(self) -> list[_log.InstanceReport]:
        """Return what the instances of kindaware models reported when they were ready, in that order."""
        return _log.read_instances(self.log_text())

    def models(self) -> list[ModelStatus]:
        """Return every version of every model of the repositories, with its state."""
        return self._endpoint().index()

    def model_state(self, name: str) -> str:
        """Return the state of a model, such as `READY` or `UNAVAILABLE`; empty when it was never loaded.

        Raises:
            ServerError: the repositories have no such model.
        """
        return self._endpoint().state(name)

    def is_model_ready(self, name: str, version: str = "1", timeout_seconds: float = HEALTH_SECONDS) -> bool:
        """Return whether a version of a model is loaded and says in time that it is ready.

        Servers from 26.03 on ask its `is_ready`. Before that a loaded model is ready.
        """
        return self._endpoint().is_model_ready(name, version, timeout_seconds)

    def model_config(self, name: str) -> dict[str, Any]:
        """Return the configuration of a ready model, as the server has completed it."""
        return self._endpoint().config(name)

    @property
    def heals(self) -> bool:
        """Whether dead models are loaded again."""
        return self._guard_limits is not None

    @property
    def given_up(self) -> dict[str, str]:
        """Why each model that died too often was left unloaded, by name; with `heal`."""
        return {} if self._guard is None else self._guard.given_up

    def health(self) -> dict[str, ModelHealth]:
        """Return the health of each model that is served, or ought to be, by name; with `heal`."""
        return self._health.models()

    def load(self, name: str, config: str | None = None) -> None:
        """Load or reload a model; needs explicit model control. Waits until it is ready.

        Args:
            name: of the model.
            config: its configuration as JSON, in place of config.pbtxt.

        Raises:
            ServerError: with the server's words, or the model can't be loaded.
        """
        server = self._running()
        server.links.renew(name)
        if config is None:
            check_models(server.repositories, [name], code_only=True)
        endpoint = self._endpoint()
        self._watch(name).load(lambda: endpoint.load(name, config), name)

    def unload(self, name: str, timeout_seconds: float = 60.0) -> None:
        """Unload a model; needs explicit model control. Waits until it is gone.

        Raises:
            ServerError: with the server's words, or it is not gone in time.
        """
        self._endpoint().unload(name, timeout_seconds)

    def _endpoint(self) -> Endpoint:
        """Return the server's HTTP side, with the right to use all of it."""
        return Endpoint(self.http_url, self.headers)

    def _control_mode(self) -> str | None:
        """Return how models are loaded, where `args` say so."""
        return read_option(self._options.args, "--model-control-mode")

    def _running(self) -> StartedServer:
        """Return the server, if it is running."""
        if self._server is None:
            raise ServerError.of(
                "TritonServer",
                expected="a running server",
                got="none",
                remedy="use it in a with statement, or call start() first",
            )
        return self._server

    def _start_guard(self, server: StartedServer) -> None:
        """Begin to heal models, if that is wanted."""
        if self._guard_limits is None:
            return
        limit, hang_seconds = self._guard_limits
        endpoint = self._endpoint()
        self._health = HealthBook()
        self._guard = Guard(
            server.process.pid,
            endpoint,
            self._load_again,
            GuardOptions(limit, hang_seconds, server.beats),
            self._heal_events,
            self._health,
            Endpoint(self.metrics_url).metrics,
        )
        self._guard.start()
        if self._health_port is not None:
            self._page = HealthPage(self._options.host, self._health_port, self._health)
            self._page.start()

    def _load_again(self, name: str) -> None:
        """Load a model that was unloaded, with the configuration that it had."""
        server = self._running()
        check_models(server.repositories, [name], code_only=True)
        # The log may have grown for months.
        watch = self._watch(name, log_start=server.log_path.stat().st_size)
        address = self.grpc_url
        headers = self.headers
        watch.load(lambda: load_over_grpc(address, name, headers), name)

    def _watch(self, model: str = "", log_start: int = 0) -> LoadWatch:
        """Return what watches the server while it loads models, or one model.

        Args:
            model: the one.
            log_start: how much of the log was written before.
        """
        server, guard = self._running(), self._guard
        return LoadWatch(
            server.process,
            grace_seconds=GRACE_SECONDS if server.location.is_wheel else LONG_GRACE_SECONDS,
            exit_on_error=self._options.exit_on_error,
            read_log=lambda: _read_log(server, log_start),
            is_others=lambda pid: guard is not None and guard.owner(pid) not in (None, model),
        )

    def _address(self, option: str) -> str:
        """Return host and port of one service, at an address that can be connected to."""
        host = self._options.host
        if option == "--metrics-port":
            host = self._options.metrics_host or host
        return _join(host, self._running().ports[option])

    def _lost_a_port(self, error: BaseException) -> bool:
        """Return whether another program took a port that we had chosen, before the server could bind it."""
        address = _log.read_port_in_use(error.log) if isinstance(error, ServerError) else None
        if address is None:
            return False
        port = int(address.rpartition(":")[2])
        return any(
            port == chosen and self._options.ports[option] == 0 for option, chosen in self._ports.items()
        )


def _join(host: str, port: int) -> str:
    """Return host and port of an address that can be connected to."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _read_log(server: StartedServer, start: int = 0) -> str:
    """Return what is in the log file from a byte on."""
    try:
        with server.log_path.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")
    except OSError:
        return ""
