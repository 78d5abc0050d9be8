"""Requests that failed in a model's code, read out of the log."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from kindaware._server.log import Record

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_KINDAWARE = re.compile(
    r"model '(?P<model>.+?)': error (?P<error_id>\w+) failed \d+ request\(s\), ids (?P<ids>\[.*?\]): "
    r"(?P<rest>.*)",
    re.DOTALL,
)
_HAND_WRITTEN = re.compile(
    r"Failed to process the request\(s\) for model '(?P<instance>.+?)', message: (?P<rest>.*)", re.DOTALL
)
_HEADLINE = re.compile(r"(?P<file>[^/\s:]+):(?P<line>\d+), in (?P<function>[^:]+): (?P<error>.*)")
_FRAME = re.compile(r'^ *File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.+)$', re.MULTILINE)
_STUB_FRAME = re.compile(r"^ +(?P<file>\S.*)\((?P<line>\d+)\): (?P<function>.+)$", re.MULTILINE)
_NUM_IDS = 3
_INSTALLED = ("/site-packages/", "/dist-packages/", "/lib/python", "<frozen", "<string>")


@dataclass(frozen=True)
class FailedRequests:
    """Requests that one error has failed.

    Attributes:
        model: its name.
        request_ids: those of the clients, as far as they are known; empty strings for requests without one.
        error: type and first line.
        place: the user's own line, such as `models/net/1/model.py:7, in forward`; empty where there is none.
        error_id: what clients know the error by; empty for that of a model without kindaware.
    """

    model: str
    request_ids: tuple[str, ...]
    error: str
    place: str
    error_id: str = ""


def read_failed_requests(record: Record) -> FailedRequests | None:
    """Return what an entry says about failed requests; None for one that is about something else."""
    found = _KINDAWARE.match(record.text)
    if found is not None:
        first, _, traceback = found["rest"].partition("\n")
        headline = _HEADLINE.match(first)
        error = first if headline is None else headline["error"]
        place = find_place(traceback, headline)
        return FailedRequests(found["model"], _read_ids(found["ids"]), error, place, found["error_id"])
    found = _HAND_WRITTEN.match(record.text)
    if found is not None:
        # The name of an instance is that of its group, which is the model's with a number, and a number.
        model = re.sub(r"(_\d+){1,2}$", "", found["instance"])
        error = found["rest"].partition("\n")[0]
        return FailedRequests(model, (), error, find_place(found["rest"]))
    return None


def find_place(traceback: str, headline: re.Match[str] | None = None) -> str:
    """Return the line of the user's own that a traceback leads to; empty if there is none.

    Args:
        traceback: Python's, or that of Triton's stub, which has the innermost frame first.
        headline: that of the library's log, which names the line without its directory.
    """
    frames = [*reversed(list(_FRAME.finditer(traceback))), *_STUB_FRAME.finditer(traceback)]
    if headline is not None:
        named = [one for one in frames if _is_named(one, headline)]
        return _write(named[0]) if named else headline[0].removesuffix(f": {headline['error']}")
    own = list(_own(frames))
    return _write(own[0]) if own else ""


def _read_ids(text: str) -> tuple[str, ...]:
    try:
        return tuple(map(str, ast.literal_eval(text)))
    except (ValueError, SyntaxError):  # an id has what ends the list
        return ()


def _own(frames: Iterable[re.Match[str]]) -> Iterable[re.Match[str]]:
    for one in frames:
        if not (one["file"].startswith(_PACKAGE) or any(part in one["file"] for part in _INSTALLED)):
            yield one


def _is_named(frame: re.Match[str], headline: re.Match[str]) -> bool:
    return os.path.basename(frame["file"]) == headline["file"] and frame["line"] == headline["line"]


def _write(frame: re.Match[str]) -> str:
    """Return file, line and function; the file is the user's, not the link to it that the server has."""
    file = os.path.realpath(frame["file"])
    below = os.path.relpath(file)
    return f"{file if below.startswith('..') else below}:{frame['line']}, in {frame['function']}"


def write_failed(failed: FailedRequests) -> str:
    """Return one line: model, ids of the requests, error, and the user's line."""
    ids = [repr(one) for one in failed.request_ids if one]
    shown = ", ".join(ids[:_NUM_IDS]) + ", ..." * (len(ids) > _NUM_IDS)
    count = len(failed.request_ids)
    requests = f"{count} requests" if count > 1 else "request" if ids else "a request"
    return f"{failed.model}: {requests}{f' {shown}' if shown else ''} failed: {write_error(failed)}"


def write_load_failure(reason: str) -> str:
    """Return why a model was not loaded in one line: the error, and the user's line where it is known."""
    first = reason.strip().removeprefix("Internal: ").partition("\n")[0].removesuffix(";")
    place = find_place(reason)
    return f"{first} ({place})" if place else first


def write_error(failed: FailedRequests) -> str:
    """Return the error and the user's line."""
    return f"{failed.error} ({failed.place})" if failed.place else failed.error
