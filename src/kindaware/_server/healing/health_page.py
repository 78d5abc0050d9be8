"""The health of a server and its models over HTTP, for those who ask whether to send requests."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from kindaware._server.failure import ServerError
from kindaware._server.healing.health import GIVEN_UP, READY, HealthBook, ModelHealth

_STALE_SECONDS = 30.0
"""Nothing that is older than that is passed on as the truth."""
_COUNTERS = (
    ("kindaware_model_deaths_total", "How often a process of the model died or hung", "num_deaths"),
    ("kindaware_model_heals_total", "How often the model was loaded again after a death", "num_heals"),
    ("kindaware_model_heal_failures_total", "How often that failed", "num_failures"),
    ("kindaware_model_heal_seconds_total", "From deaths until the model was ready again", "heal_seconds"),
)


class HealthPage:
    """Answers questions about health, from `start` until `close`.

    Args:
        host: the address to listen on.
        port: 0 picks a free one.
        health: what is known.

    Raises:
        ServerError: nothing can listen there.
    """

    def __init__(self, host: str, port: int, health: HealthBook) -> None:
        try:
            self._server = http.server.ThreadingHTTPServer((host, port), _make_handler(health))
        except OSError as error:
            raise ServerError.of(
                f"health page at {host}:{port}",
                expected="an address and port of this machine that are free",
                got=str(error),
                remedy="choose another, or 0 for any free port",
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="kindaware health", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


def answer(path: str, health: HealthBook) -> tuple[HTTPStatus, str, str]:
    """Return the status, the media type and the text for a path.

    `/livez` fails where only a new server helps, `/readyz` where a request of some model would fail, and
    `/healthz` where either does, with all that is known. A model's name may follow each.
    """
    question, _, model = path.partition("?")[0].strip("/").partition("/")
    model = unquote(model)
    models, reason = health.models(), health.server_reason
    if not reason and health.seconds_since_look > _STALE_SECONDS:
        reason = f"not looked at for {health.seconds_since_look:.0f} s"
    if question == "metrics" and not model:
        return HTTPStatus.OK, "text/plain; version=0.0.4", _write_metrics(models, is_up=not reason)
    judge = {"livez": _is_live, "readyz": _is_ready, "healthz": _is_ready}.get(question)
    if judge is None or (model and model not in models):
        known = "/livez, /readyz, /healthz, each with /MODEL, and /metrics"
        return HTTPStatus.NOT_FOUND, "application/json", _write({"error": f"no such page: try {known}"})
    asked = {model: models[model]} if model else models
    is_well = all(map(judge, asked.values()))
    # A server that has never answered may still load its models.
    is_well &= health.silent_seconds < _STALE_SECONDS if question == "livez" else not reason
    body: dict[str, Any] = {"status": "ok" if is_well else "failing"}
    if reason:
        body["server"] = reason
    body["models"] = {name: _describe(one, is_known=not reason) for name, one in sorted(asked.items())}
    return HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE, "application/json", _write(body)


def _is_ready(model: ModelHealth) -> bool:
    return model.state == READY


def _is_live(model: ModelHealth) -> bool:
    return model.state != GIVEN_UP


def _describe(model: ModelHealth, *, is_known: bool) -> dict[str, Any]:
    since = datetime.fromtimestamp(model.since, timezone.utc).isoformat(timespec="milliseconds")
    return {
        "state": model.state if is_known else "unknown",
        "since": since,
        "reason": model.reason,
        "deaths": model.num_deaths,
        "heals": model.num_heals,
        "failures": model.num_failures,
    }


def _write(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False, indent=2) + "\n"


def _write_metrics(models: dict[str, ModelHealth], *, is_up: bool) -> str:
    """Return what Prometheus reads."""
    families: list[tuple[str, str, str, Callable[[ModelHealth], float]]] = [
        (
            "kindaware_model_ready",
            "gauge",
            "Whether the model serves",
            lambda one: float(is_up and _is_ready(one)),
        ),
        (
            "kindaware_model_given_up",
            "gauge",
            "Whether it was given up",
            lambda one: float(not _is_live(one)),
        ),
    ]
    families += [
        (name, "counter", text, lambda one, field=field: float(getattr(one, field)))  # type: ignore[misc]
        for name, text, field in _COUNTERS
    ]
    lines = [
        "# HELP kindaware_server_up Whether the server answers",
        "# TYPE kindaware_server_up gauge",
        f"kindaware_server_up {int(is_up)}",
    ]
    for name, kind, text, read in families:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        lines += [
            f"{name}{{model={json.dumps(model, ensure_ascii=False)}}} {read(one):g}"
            for model, one in sorted(models.items())
        ]
    return "\n".join(lines) + "\n"


def _make_handler(health: HealthBook) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, media_type, text = answer(self.path, health)
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: probes ask every second."""

    return Handler
