"""Models loaded again after their files have changed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from kindaware._server.failure import ServerError
from kindaware._server.log import read_failures
from kindaware._server.repository import find_models
from kindaware._server.request_failures import write_load_failure
from kindaware._server.server import TritonServer
from kindaware.cli.serve._view import View

_REASON = re.compile(r"is at UNAVAILABLE state: (?:Internal: )?(.*?)(?:;; .*)?$", re.DOTALL)
_LOG_SECONDS = 2.0
_POLL_SECONDS = 0.05


def reload_models(
    server: TritonServer, models: Iterable[str], repositories: Sequence[str], view: View
) -> bool:
    """Load models again, or unload those that are gone, and show each.

    The version before goes on serving where a model can't be loaded.

    Returns:
        Whether the server can go on loading models: it can't while it waits for a process that has ended.
    """
    return all(_reload(server, name, find_models(repositories).get(name), view) for name in models)


def _reload(server: TritonServer, name: str, folder: Path | None, view: View) -> bool:
    started, log_length = time.monotonic(), len(server.log_text())
    is_served = any(one.name == name and one.state == "READY" for one in server.models())
    try:
        if folder is None:
            server.unload(name)
        else:
            _check_syntax(folder)
            server.load(name)
    except (ServerError, SyntaxError) as error:
        reason = _explain(error, lambda: server.log_text()[log_length:], name)
        view.not_reloaded(name, reason, is_served=is_served)
        # Only what is not the server's own answer comes with the log.
        return not getattr(error, "log", "")
    done = "unloaded" if folder is None else "reloaded" if is_served else "loaded"
    view.reloaded(name, done, time.monotonic() - started)
    return True


def _check_syntax(folder: Path) -> None:
    """Raise a SyntaxError, without a process for it, where a file is no Python."""
    for file in folder.glob("*/*.py"):
        compile(file.read_bytes(), str(file), "exec", dont_inherit=True)


def _explain(error: ServerError | SyntaxError, read_log: Callable[[], str], name: str) -> str:
    """Return why a model was not loaded, in a line.

    Args:
        error: what was raised.
        read_log: returns what has been logged since the model was asked for.
        name: of the model.
    """
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({os.path.relpath(error.filename or '')}:{error.lineno})"
    # The server's words on one line are part of the sentence; those on several follow it.
    words = str(error).removesuffix("; the server's log has more").rpartition("; the server's log has more")
    told = _REASON.search(words[2])
    reason = told[1] if told is not None else str(error) if error.log else _wait_for_reason(read_log, name)
    if error.log:
        return (reason or str(error)).partition("\n")[0]
    return write_load_failure(reason or str(error))


def _wait_for_reason(read_log: Callable[[], str], name: str) -> str:
    """Return why a model failed as the log has it, maybe later than the answer; empty if it does not."""
    deadline = time.monotonic() + _LOG_SECONDS
    while name not in (failures := read_failures(read_log())) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return failures.get(name, "").removeprefix("Internal: ")
