"""The few requests that a server's owner makes: health, configuration, the model repository."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from kindaware._errors import message
from kindaware._server.failure import ServerError

_POLL_SECONDS = 0.05
_SECONDS = 30.0
HEALTH_SECONDS = 2.0
"""How long a question about health may take, unless said."""
_LONG = 300
"""More characters than that are not all told within a sentence."""


@dataclass(frozen=True)
class ModelStatus:
    """One version of a model, as the server's repository index has it.

    Args:
        name: of the model.
        version: of the model; empty when none was ever loaded.
        state: `READY`, `LOADING`, `UNLOADING`, `UNAVAILABLE`, or empty.
        reason: why it is not ready, in the server's words.
    """

    name: str
    version: str
    state: str
    reason: str


class Endpoint:
    """The HTTP side of one server.

    Every method but `is_live` and `is_model_ready` raises a ServerError with the server's own words when it
    refuses, and when it can't be reached.

    Args:
        address: host and port.
        headers: of every request, for a server that restricts its APIs.
    """

    def __init__(self, address: str, headers: Mapping[str, str] | None = None) -> None:
        self._address = address
        self._headers = dict(headers or {})
        # This machine is nobody's proxy.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def is_live(self) -> bool | None:
        """Return whether the server says that it is live, or None without an answer in two seconds.

        Its own readiness is another matter: from 26.04 on that asks every model.
        """
        return self._agrees("/v2/health/live")

    def is_model_ready(self, model: str, version: str, timeout_seconds: float = HEALTH_SECONDS) -> bool:
        """Return whether a version of a model says in time that it is ready.

        26.03 and newer ask its `is_ready`.
        """
        path = f"/v2/models/{_quote(model)}/versions/{_quote(version)}/ready"
        return self._agrees(path, timeout_seconds) is True

    def version(self) -> str:
        """Return the server's version, such as `2.51.0`."""
        return str(self._ask("server", "/v2")["version"])

    def index(self, timeout_seconds: float = _SECONDS) -> list[ModelStatus]:
        """Return every version of every model of the repositories, with its state."""
        entries = self._ask(
            "model repository index", "/v2/repository/index", body={}, timeout_seconds=timeout_seconds
        )
        return [
            ModelStatus(
                name=entry["name"],
                version=entry.get("version", ""),
                state=entry.get("state", ""),
                reason=entry.get("reason", ""),
            )
            for entry in entries
        ]

    def state(self, model: str) -> str:
        """Return the state of a model: `READY` if one of its versions is, empty if it was never loaded."""
        index = self.index()
        states = [status.state for status in index if status.name == model]
        if not states:
            known = ", ".join(sorted({status.name for status in index})) or "none"
            raise ServerError.of(
                f"model '{model}'",
                expected="a model of the repositories",
                got="none",
                remedy=f"they have: {known}",
            )
        return "READY" if "READY" in states else states[0]

    def config(self, model: str, timeout_seconds: float = _SECONDS) -> dict[str, Any]:
        """Return the configuration of a ready model, completed by the server."""
        path = f"/v2/models/{_quote(model)}/config"
        config: dict[str, Any] = self._ask(
            f"configuration of model '{model}'", path, timeout_seconds=timeout_seconds
        )
        return config

    def metrics(self) -> str:
        """Return the metrics, of a server that has them at this address."""
        return self._read("metrics", "/metrics", timeout_seconds=2.0).decode(errors="replace")

    def load(self, model: str, config: str | None = None, files: Mapping[str, str] | None = None) -> None:
        """Load a model; waits without a limit until it is ready.

        Args:
            model: its name.
            config: as JSON, in place of its config.pbtxt.
            files: in place of its directory, in base64, such as `file:1/model.py`.
        """
        parameters = {**({} if config is None else {"config": config}), **(files or {})}
        body = {"parameters": parameters} if parameters else {}
        path = f"/v2/repository/models/{_quote(model)}/load"
        self._ask(f"load of model '{model}'", path, body=body, timeout_seconds=None)

    def begin_unload(self, model: str, timeout_seconds: float = _SECONDS) -> None:
        """Have a model take no more requests, and be unloaded once it has answered those that it has."""
        path = f"/v2/repository/models/{_quote(model)}/unload"
        self._ask(f"unload of model '{model}'", path, body={}, timeout_seconds=timeout_seconds)

    def unload(self, model: str, timeout_seconds: float) -> None:
        """Unload a model; waits until it is gone."""
        subject = f"unload of model '{model}'"
        self.begin_unload(model)
        deadline = time.monotonic() + timeout_seconds
        while (state := self.state(model)) in ("READY", "UNLOADING"):
            if time.monotonic() > deadline:
                raise ServerError.of(
                    subject,
                    expected=f"its end within {timeout_seconds:g} s",
                    got=f"state {state}",
                    remedy="look for a request that does not end, or a thread that outlives unload() and is "
                    "no daemon",
                )
            time.sleep(_POLL_SECONDS)

    def _agrees(self, path: str, timeout_seconds: float = HEALTH_SECONDS) -> bool | None:
        """Return whether a question is answered with a success, or None where it is not answered in time."""
        try:
            self._ask("health", path, timeout_seconds=timeout_seconds)
        except ServerError as error:
            return False if isinstance(error.__cause__, urllib.error.HTTPError) else None
        return True

    def _ask(
        self,
        subject: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        timeout_seconds: float | None = _SECONDS,
    ) -> Any:
        """Send one request, and return the JSON of the answer, or None if it has no body."""
        text = self._read(subject, path, body=body, timeout_seconds=timeout_seconds)
        return json.loads(text) if text else None

    def _read(
        self,
        subject: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        timeout_seconds: float | None,
    ) -> bytes:
        """Send one request, and return the body of the answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self._address}{path}", data=data, headers=self._headers)
        try:
            with self._opener.open(request, timeout=timeout_seconds) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise refusal(
                    subject, self._address, _error_text(error.read()), "the server's log has more"
                ) from error
        except (OSError, http.client.HTTPException) as error:
            reason = f"{type(error).__name__}: {error}"
            raise refusal(subject, self._address, reason, "check that the server runs") from error


def refusal(subject: str, address: str, reason: str, remedy: str) -> ServerError:
    """Return the error about an answer; the whole reason follows where it has several lines."""
    first, *further = reason.splitlines() or [""]
    text = message(subject, expected=f"an answer from {address}", got=first, remedy=remedy)
    return ServerError(f"{text}\n\n{reason}" if further or len(first) > _LONG else text)


def _error_text(body: bytes) -> str:
    """Return the server's own words in an error response."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip() or "an error without a text"


def _quote(model: str) -> str:
    """Quote a model's name for a path."""
    return quote(model, safe="")
