"""What happens to a server as lines of JSON on standard output."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Collection, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from kindaware._errors import KindAwareError
from kindaware._server.failure import ServerError
from kindaware._server.healing.events import HealEvents
from kindaware._server.log import is_load_failure
from kindaware._server.log_entries import Entry, EntryLines
from kindaware._server.request_failures import FailedRequests, read_failed_requests, write_load_failure
from kindaware._server.server import TritonServer
from kindaware.cli._heal_lines import HealJson
from kindaware.cli.serve._block import HEADER, list_notes, list_rows
from kindaware.cli.serve._progress import Display
from kindaware.cli.serve._view import LogLines, TextView

_LEVELS = {"E": "error", "W": "warning"}
_PLACE = re.compile(r"(?P<file>.+):(?P<line>\d+), in (?P<function>.+)")


def write_event(event: str, **fields: Any) -> str:
    """Return one line: what has happened, when, and what is known about it."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return json.dumps({"event": event, "time": now, **fields}, ensure_ascii=False) + "\n"


def print_lines(lines: str) -> None:
    """Print lines at once; where nobody reads them any more, ask this process to end, as a pipe does."""
    try:
        sys.stdout.write(lines)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        os.kill(os.getpid(), signal.SIGTERM)


class EventView:
    """An event for all that happens; errors that end the command are on standard error too.

    Args:
        settings: what was changed in the models' configurations.
    """

    def __init__(self, settings: Sequence[str]) -> None:
        self._settings = settings

    def write_log(self, text: str) -> None:
        """Print the events of a piece of the log."""
        print_lines(text)

    def starting(self, repositories: Sequence[str]) -> None:
        """Print the event."""
        print_lines(write_event("starting", repositories=list(repositories)))

    def open_display(self, models: Collection[str]) -> Display:
        """Return what prints an event for each model that begins to load, and for each that is done."""
        return LoadEvents()

    def open_errors(self) -> LogLines:
        """Return what makes events of errors and warnings."""
        return LogEvents()

    def open_heals(self) -> HealEvents:
        """Return what prints an event for each."""
        return HealJson(lambda event, **fields: print_lines(write_event(event, **fields)))

    def ready(self, server: TritonServer) -> None:
        """Print addresses and instances."""
        location = server.location
        found = write_event(
            "ready",
            http=server.http_url,
            grpc=server.grpc_url,
            metrics=f"{server.metrics_url}/metrics",
            health=server.health_url or None,
            server=str(location.path),
            server_version=server.server_version,
            log=str(server.log_path),
            settings=list(self._settings),
            notes=list_notes(server),
            heals=server.heals,
            instances=[dict(zip(HEADER, row, strict=True)) for row in list_rows(server)],
        )
        print_lines(found)

    ready_again = ready

    def reloaded(self, model: str, what: str, seconds: float) -> None:
        """Print the event."""
        print_lines(write_event(what, model=model, seconds=round(seconds, 3)))

    def not_reloaded(self, model: str, reason: str, *, is_served: bool) -> None:
        """Print the event."""
        print_lines(write_event("failed", model=model, error=reason, is_served=is_served))

    def waiting(self) -> None:
        """Print the event."""
        print_lines(write_event("waiting"))

    def failed(self, error: KindAwareError, log_path: Path) -> None:
        """Print the event, and on standard error what a person gets to read."""
        models = error.models if isinstance(error, ServerError) else {}
        reasons = {model: write_load_failure(reason) for model, reason in models.items()}
        text = str(error).partition("\n")[0]
        has_log = log_path.exists() and log_path.stat().st_size
        print_lines(write_event("error", error=text, models=reasons, log=str(log_path) if has_log else None))
        TextView((), has_all_examples=False).failed(error, log_path)

    def stopping(self) -> None:
        """Print the event."""
        print_lines(write_event("stopping"))

    def draining(self, models: Collection[str], seconds: float) -> None:
        """Print the event."""
        print_lines(write_event("draining", models=list(models), seconds_left=round(seconds, 1)))

    def cut_off(self, models: Collection[str]) -> None:
        """Print the event."""
        print_lines(write_event("cut_off", models=list(models)))

    def stopped(self, status: int) -> None:
        """Print the event, which is the last one."""
        print_lines(write_event("stopped", exit_code=status))


class LoadEvents:
    """Events of models that load."""

    def loading(self, model: str) -> None:
        """Print the event."""
        print_lines(write_event("loading", model=model))

    def done(self, model: str, event: str, seconds: float, reason: str) -> None:
        """Print the event `loaded` or `failed`."""
        if event == "failed":
            print_lines(write_event("failed", model=model, seconds=round(seconds, 3), error=reason))
        else:
            print_lines(write_event("loaded", model=model, seconds=round(seconds, 3)))

    def close(self) -> None:
        """Nothing is left to do."""


class LogEvents(EntryLines):
    """Turns the text of a log into events: one for each error of a model's code, warning and other error."""

    def write(self, entry: Entry) -> str:
        """Return the event of an entry; empty for one that is left out."""
        record = entry.record
        if record.level not in _LEVELS or is_load_failure(record):
            return ""
        failed = read_failed_requests(record)
        if failed is None:
            return write_event("log", level=_LEVELS[record.level], source=record.source, text=record.text)
        return write_event("request_failed", **_describe(failed))


def _describe(failed: FailedRequests) -> dict[str, Any]:
    found = _PLACE.fullmatch(failed.place)
    return {
        "model": failed.model,
        "request_ids": [one or None for one in failed.request_ids],
        "error_id": failed.error_id or None,
        "error": failed.error,
        "file": found and found["file"],
        "line": found and int(found["line"]),
        "function": found and found["function"],
    }
