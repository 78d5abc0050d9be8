"""Errors and warnings of a growing log as a terminal shows them: a line for each failed request."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from kindaware._server.log import is_load_failure
from kindaware._server.log_entries import Entry, EntryLines
from kindaware._server.request_failures import FailedRequests, read_failed_requests, write_error, write_failed

SECONDS = 10.0
"""Errors that differ in numbers at most are shown once in this time."""


@dataclass
class _Repeated:
    """An error that has been shown.

    Attributes:
        last: the latest of its kind.
        since: when it was shown.
        count: requests that it has failed since then.
    """

    last: FailedRequests
    since: float
    count: int = 0


class ErrorLines(EntryLines):
    """Turns the text of a log into what is worth a look.

    Args:
        now: seconds that only grow.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._shown: dict[tuple[str, str, str], _Repeated] = {}

    def feed(self, text: str) -> str:
        """Return what to show of the next piece of a log; with an empty one, of what has come before."""
        return super().feed(text) + self._count_repeated(SECONDS)

    def close(self) -> str:
        """Return the rest."""
        return super().close() + self._count_repeated(0.0)

    def write(self, entry: Entry) -> str:
        """Return an entry as it is shown; empty for one that is left out."""
        if entry.record.level not in ("E", "W") or is_load_failure(entry.record):
            return ""
        failed = read_failed_requests(entry.record)
        if failed is None:
            return entry.raw
        key = (failed.model, failed.place, re.sub(r"\d+", "0", failed.error))
        if key in self._shown:
            self._shown[key].count += max(len(failed.request_ids), 1)
            self._shown[key].last = failed
            return ""
        self._shown[key] = _Repeated(failed, self._now())
        return write_failed(failed) + "\n"

    def _count_repeated(self, seconds: float) -> str:
        """Return a line for each error that has come again, and let it be shown again."""
        over = [key for key, one in self._shown.items() if self._now() - one.since >= seconds]
        lines = ""
        for key in over:
            one = self._shown.pop(key)
            if one.count:
                times = f"{one.count} more request{'s' * (one.count > 1)}"
                lines += f"{one.last.model}: {times} failed like that: {write_error(one.last)}\n"
                if seconds:  # it goes on
                    self._shown[key] = _Repeated(one.last, self._now())
        return lines
