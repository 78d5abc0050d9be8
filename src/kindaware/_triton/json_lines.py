"""Log records as lines of JSON, with what they belong to: instance, requests, trace."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from kindaware._batch.request_context import current_request_ids
from kindaware._errors import ConfigError

LOG_FORMAT = "KINDAWARE_LOG_FORMAT"
"""The variable that chooses how instances log: `text` or `json`."""


def wants_json(environment: Mapping[str, str]) -> bool:
    """Return whether the environment asks for lines of JSON.

    Raises:
        ConfigError: the variable has another value.
    """
    value = environment.get(LOG_FORMAT, "text")
    if value not in ("text", "json"):
        raise ConfigError.of(
            f"environment variable {LOG_FORMAT}",
            expected="text or json",
            got=repr(value),
            remedy="correct it in the server's environment",
        )
    return value == "json"


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    Args:
        about: what each line begins with, behind time and level: model, version, instance.
    """

    def __init__(self, about: Mapping[str, str]) -> None:
        super().__init__()
        self._about = dict(about)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = {"time": time, "level": record.levelname.lower(), **self._about}
        request_ids = getattr(record, "request_ids", None)
        if request_ids is None:
            request_ids = current_request_ids()
        if request_ids:
            fields["request_ids"] = list(request_ids)
        fields.update(_current_span())
        for name in ("code", "error_id"):
            if (value := getattr(record, name, None)) is not None:
                fields[name] = value
        # The traceback of logger.exception() is part of it, as in plain text.
        fields["message"] = super().format(record)
        return json.dumps(fields, ensure_ascii=False, default=str)


def _current_span() -> dict[str, str]:
    """Return the ids of OpenTelemetry's current span; empty if there is none, or no OpenTelemetry."""
    # Looked up and not imported: who doesn't trace doesn't pay for it.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
