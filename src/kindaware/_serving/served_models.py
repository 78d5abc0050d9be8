"""`ServedModels`: a running server with the models that `serve` was given."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from kindaware._errors import ConfigError
from kindaware._server.failure import ServerError
from kindaware._server.own_thread import run_outside
from kindaware._server.server import TritonServer
from kindaware.client import ModelClient

_POLL_SECONDS = 0.1
Arrays = dict[str, Any]


class ServedModels:
    """Models that are being served. `kindaware.serve` returns one.

        with kindaware.serve(Doubler) as server:
            print(server.url, server.infer(X=[[1.0, 2.0]])["Y"])

    The server ends with `stop()`, at the end of a `with` block, when this object is no longer used, and with
    the process, however that ends.
    """

    def __init__(
        self, server: TritonServer, names: Sequence[str], folder: Path, *, token: str | None = None
    ) -> None:
        self._server = server
        self._token = token
        self._names = tuple(names)
        self._clients: dict[str, ModelClient] = {}
        self._finalizer = weakref.finalize(self, _end, server, self._clients, folder, os.getpid())

    def __enter__(self) -> ServedModels:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = self.url if self.is_running else "stopped"
        return f"<ServedModels {', '.join(self._names)}: {state}>"

    def __getitem__(self, name: str) -> ModelClient:
        """Return the client of one of the models, for `server["encoder"].infer(...)`."""
        self._check_running()
        self._check_alive(name)
        if name not in self._clients:
            self._clients[name] = self.client(name)
        return self._clients[name]

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models."""
        return self._names

    @property
    def url(self) -> str:
        """Host and port of gRPC, without a scheme."""
        return self._server.grpc_url

    @property
    def http_url(self) -> str:
        """Host and port of HTTP, without a scheme."""
        return self._server.http_url

    @property
    def metrics_url(self) -> str:
        """Host and port of the metrics, which are at `/metrics`."""
        return self._server.metrics_url

    @property
    def log(self) -> str:
        """All that the server and its models have printed; also after the end."""
        return self._server.log_text()

    @property
    def is_running(self) -> bool:
        """Whether the server runs."""
        return self._finalizer.alive and self._server.poll() is None

    @property
    def given_up(self) -> dict[str, str]:
        """Why each model that died too often was left unloaded, by name; empty while all are healed."""
        return self._server.given_up

    def infer(self, inputs: Mapping[str, Any] | None = None, **options: Any) -> Arrays:
        """Send one request to the only model; takes and returns what `ModelClient.infer` does.

        Raises:
            ConfigError: there are several models.
            ModelClientError: the server refuses the request.
        """
        return self[self._only("infer")].infer(inputs, **options)

    def stream(self, inputs: Mapping[str, Any] | None = None, **options: Any) -> Iterator[Arrays]:
        """Send one request to the only model, which streams, and yield the answers as they come.

        Raises:
            ConfigError: there are several models.
            ModelClientError: the server refuses the request.
        """
        return self[self._only("stream")].stream(inputs, **options)

    def client(self, name: str | None = None, **options: Any) -> ModelClient:
        """Return a new client of a model, which the caller closes.

        Args:
            name: of the model; may be left out where there is one.
            options: of `ModelClient`.

        Raises:
            ConfigError: no such model is served.
            ServerError: the server has ended, or the model was given up.
        """
        self._check_running()
        name = self._only("client") if name is None else name
        if name not in self._names:
            raise ConfigError.of(
                "served models",
                expected=f"a name out of {list(self._names)}",
                got=repr(name),
                remedy="correct it",
            )
        self._check_alive(name)
        return ModelClient(self.url, name, **{"token": self._token, **options})

    def stop(self) -> None:
        """End the server and all its processes, and remove its files; waits for that. May be called again."""
        self._finalizer()

    def wait(self, announcement: str = "") -> None:
        """Wait until Ctrl-C or SIGTERM, and end the server.

        Args:
            announcement: printed first, once Ctrl-C ends this cleanly.

        Raises:
            ServerError: the server has ended by itself, or a model has died too often.
        """
        try:
            with _interruptible():
                if announcement:
                    print(announcement, flush=True)
                while (status := self._server.poll()) is None:
                    for reason in self.given_up.values():
                        raise ServerError(reason)
                    time.sleep(_POLL_SECONDS)
            raise ServerError.of(
                "tritonserver",
                expected="a server that runs until Ctrl-C",
                got=f"its end by itself with status {status}",
                remedy="its log says why",
            )
        except KeyboardInterrupt:
            print("stopping the server ...", file=sys.stderr)
        finally:
            self.stop()

    def _check_running(self) -> None:
        if not self.is_running:
            raise ServerError.of(
                f"served models {', '.join(self._names)}",
                expected="a server that runs",
                got=f"its end by itself with status {self._server.poll()}"
                if self._finalizer.alive
                else "its end",
                remedy="look at the end of log" if self._finalizer.alive else "call kindaware.serve again",
            )

    def _check_alive(self, name: str) -> None:
        """Raise about a model that has died too often: the server only says that there is none."""
        if name in self.given_up:
            raise ServerError(self.given_up[name])

    def _only(self, method: str) -> str:
        if len(self._names) != 1:
            raise ConfigError.of(
                f"{method} of several models",
                expected=f"one out of {list(self._names)}",
                got="no name",
                remedy=f"write server.client(name={self._names[0]!r})"
                if method == "client"
                else f"write server[{self._names[0]!r}].{method}(...)",
            )
        return self._names[0]


def _end(server: TritonServer, clients: dict[str, ModelClient], folder: Path, owner: int) -> None:
    """End a server, and remove its models; a fork of the process that owns it does nothing."""
    if os.getpid() != owner:
        return

    def end() -> None:
        for client in clients.values():
            with contextlib.suppress(Exception):
                client.close()
        try:
            server.stop()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    run_outside(end)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Have SIGTERM interrupt as Ctrl-C does, and Ctrl-C where a shell has the process ignore it.

    Only the main thread can set that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
