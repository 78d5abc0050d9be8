"""What is measured: a model of a running server, or of one that is started for it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kindaware._errors import ConfigError, OptionError
from kindaware._server.failure import ServerError
from kindaware._server.model_folder import is_model
from kindaware._server.request_failures import write_load_failure
from kindaware._server.server import TritonServer
from kindaware.cli._served_models import unknown_named
from kindaware.cli.bench._server_times import count
from kindaware.cli.bench._target import Protocol, Target, make_message
from kindaware.client._metadata import Metadata
from kindaware.client._transport import Transport

_ADDRESS = re.compile(r"(\w+://)?(\[[0-9a-fA-F:.]+\]|[\w.-]+):\d+/?")
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Place:
    """Where the model is: at an address, or in a directory.

    Attributes:
        url: of a running server; empty for a directory.
        repository: that a server is started on; None for an address.
        model: its name; empty for the only one of the server.
    """

    url: str
    repository: Path | None
    model: str


def is_address(text: str) -> bool:
    """Return whether a text is HOST:PORT, with or without a scheme."""
    return _ADDRESS.fullmatch(text) is not None


def find_place(text: str, model: str) -> Place:
    """Read `URL`, `MODEL_DIR` or `REPOSITORY` of the command line.

    Raises:
        ConfigError: it is none of these.
    """
    path = Path(text).expanduser()
    if is_model(path):
        folder = path.absolute()
        return Place("", folder.parent, _check_name(folder.name, model))
    if path.is_dir():
        return Place("", path.absolute(), _check_is_there(path, model))
    if is_address(text):
        return Place(text, None, model)
    raise ConfigError.of(
        text,
        expected="the address of a server, or the directory of a model or of models",
        got="neither: no such directory, and no HOST:PORT",
        remedy="write it like localhost:8001 (gRPC), http://localhost:8000 or models/net",
    )


def _check_is_there(repository: Path, model: str) -> str:
    known = sorted(one.name for one in repository.iterdir() if is_model(one))
    if known and model and model not in known:
        raise ConfigError.of(
            f"--model {model}",
            expected=f"a model of {repository}",
            got="none of that name",
            remedy=f"it has {', '.join(known)}",
        )
    return model


def _check_name(folder: str, model: str) -> str:
    if model not in ("", folder):
        raise ConfigError.of(
            f"--model {model}",
            expected=f"{folder}, whose directory was given",
            got=repr(model),
            remedy="leave --model out, or give the repository above the model",
        )
    return folder


class Subject:
    """A model that is ready, and what the server says about it.

    Args:
        transport: a connection.
        model: its name.
        version: of the model; empty for the server's choice.
        server: the one that was started for it, if any.
    """

    def __init__(
        self, transport: Transport, model: str, version: str = "", server: TritonServer | None = None
    ) -> None:
        self._transport = transport
        self.model = model
        self.version = version
        self.server = server
        self.metadata: Metadata = transport.metadata(model, version, _TIMEOUT_SECONDS)
        self.config: dict[str, Any] = transport.config(model, version, _TIMEOUT_SECONDS)
        self._check()

    @property
    def url(self) -> str:
        """The address, with its scheme."""
        return f"{self._transport.scheme}://{self._transport.address}"

    def statistics(self) -> list[dict[str, Any]]:
        """Return the server's statistics of the model, a mapping for each version."""
        return self._transport.statistics(self.model, self.version, _TIMEOUT_SECONDS)

    def counts(self) -> Counter[str]:
        """Return what the server has counted for the model so far."""
        return count(self.statistics())

    def target(self, inputs: Mapping[str, Any]) -> Target:
        """Return the request with these inputs, whose batch dimension is there already.

        Raises:
            ModelClientError: they are not the model's.
        """
        arrays, _ = self.metadata.prepare(inputs)
        datatypes = {name: self.metadata.find(name).datatype for name in arrays}
        protocol: Protocol = "grpc" if self._transport.scheme == "grpc" else "http"
        headers = self._transport.headers
        message = make_message(protocol, self.model, arrays, datatypes, version=self.version, headers=headers)
        return Target(protocol, self._transport.address, message, self.metadata.decoupled, headers)

    def _check(self) -> None:
        if "sequence_batching" in self.config:
            raise ConfigError.of(
                f"model {self.model!r}",
                expected="one whose requests stand for themselves",
                got="a sequence model",
                remedy="measure it with perf_analyzer, which keeps sequences apart",
            )
        if self.metadata.decoupled and self._transport.scheme != "grpc":
            raise ConfigError.of(
                f"model {self.model!r}, which streams",
                expected="an address of gRPC",
                got=self.url,
                remedy="pass the one of gRPC, usually port 8001",
            )


@contextmanager
def open_subject(
    place: Place,
    *,
    version: str = "",
    settings: Mapping[str, str] | None = None,
    kind: str | None = None,
    over_http: bool = False,
    token: str | None = None,
) -> Iterator[Subject]:
    """Connect to a server, or start one for as long as the block lasts; yield the model.

    Args:
        place: where the model is.
        version: of the model.
        settings: changes to its configuration, of a server that is started.
        kind: `CPU` puts every instance on the CPU.
        over_http: whether a server that is started is asked over HTTP.
        token: of a server that runs; one that is started has none.

    Raises:
        ConfigError: the server has several models and none was named, or this one can't be measured.
        ModelClientError: the server can't be reached, or has no such model.
        ServerError: it can't be started.
    """
    if place.repository is None:
        _check_running(place, is_changed=bool(settings or kind or over_http))
        with _connected(place.url, token) as transport:
            yield _find_model(transport, place.model or _only_model(transport), version)
        return
    model = place.model
    changes = []
    if settings:
        name = model or only_folder(place.repository)
        changes = [f"{name}.{key}={value}" for key, value in settings.items()]
    with (
        _started(
            TritonServer(place.repository, models=[model] if model else None, kind=kind, settings=changes)
        ) as server,
        _connected(f"http://{server.http_url}" if over_http else server.grpc_url) as transport,
    ):
        yield Subject(transport, model or _only_model(transport), version, server)


@contextmanager
def _started(server: TritonServer) -> Iterator[TritonServer]:
    """Start a server for as long as the block lasts; a model that fails is an error of one line."""
    try:
        server.start()
    except ServerError as error:
        if not error.models:
            raise
        model, reason = next(iter(error.models.items()))
        text = f"model {model!r} can't be loaded: {write_load_failure(reason)}"
        raise ServerError(text, models=error.models, log=error.log) from error
    try:
        yield server
    finally:
        server.stop()


def _find_model(transport: Transport, model: str, version: str) -> Subject:
    """Return a model of a running server; where it has none of that name, the error names those it has."""
    with unknown_named(transport, model, _TIMEOUT_SECONDS):
        return Subject(transport, model, version)


def _check_running(place: Place, *, is_changed: bool) -> None:
    if is_changed:
        raise OptionError.of(
            "--set, --kind and --http",
            expected="a server that this command starts",
            got=f"one that runs, {place.url}",
            remedy="pass MODEL_DIR, or leave them out; http://HOST:PORT is asked over HTTP",
        )


@contextmanager
def _connected(url: str, token: str | None = None) -> Iterator[Transport]:
    transport = Transport(url, _TIMEOUT_SECONDS, token)
    try:
        yield transport
    finally:
        transport.close()


def only_folder(repository: Path) -> str:
    """Return the name of the only model in a repository.

    Raises:
        ConfigError: it has none, or several.
    """
    return _only(sorted(one.name for one in repository.iterdir() if is_model(one)), str(repository))


def _only_model(transport: Transport) -> str:
    return _only(transport.ready_models(_TIMEOUT_SECONDS), transport.address)


def _only(models: list[str], where: str) -> str:
    if len(models) == 1:
        return models[0]
    raise ConfigError.of(
        f"the models at {where}",
        expected="one, or the name of one",
        got=", ".join(models) or "none that is ready",
        remedy="say which with --model NAME" if models else "load one",
    )
