"""The server's log as lines of JSON: one for each entry, those of the instances as they wrote them."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone

from kindaware._server.keeper import RECORD_HEADER
from kindaware._server.log_entries import Entry, EntryLines
from kindaware.cli.serve._view import TextView

_LEVELS = {"E": "error", "W": "warning", "I": "info", "V": "debug"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(?=Z )")


class JsonLog(EntryLines):
    """Turns the text of a log into lines of JSON."""

    def write(self, entry: Entry) -> str:
        """Return an entry as a line of JSON; empty for an empty line.

        What is printed without a level, such as by a model's print(), has the level `info` and the present
        time.
        """
        record = entry.record
        if not record.text.strip():
            return ""
        # An instance has written it in JSON already.
        if record.level and not re.match(RECORD_HEADER, entry.raw):
            return entry.raw
        source = {"source": record.source} if record.source else {}
        return _write(_time_of(entry.raw), _LEVELS.get(record.level, "info"), record.text, **source)


def _write(time: datetime, level: str, message: str, **more: str) -> str:
    """Return a line with the fields, and the form of the time, that the instances' own lines have."""
    fields = {"time": time.isoformat(timespec="milliseconds"), "level": level, **more, "message": message}
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _time_of(raw: str) -> datetime:
    """Return when an entry was written; now where it doesn't say."""
    found = _TIME.match(raw)
    if found is None:
        return datetime.now(timezone.utc)
    # Before 3.11 only three or six digits are read behind the seconds.
    seconds, _, fraction = found[0].partition(".")
    return datetime.fromisoformat(f"{seconds}.{fraction:0<6.6}").replace(tzinfo=timezone.utc)


class JsonLogView(TextView):
    """The log in lines of JSON on standard error, and in such lines what the command itself says there."""

    def say(self, text: str, level: str = "info") -> None:
        """Print a line."""
        self.write_log(_write(datetime.now(timezone.utc), level, text.strip(), source="kindaware serve"))
