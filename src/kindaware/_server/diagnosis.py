"""Why a server did not become ready, read from its log."""

from __future__ import annotations

from kindaware._errors import message
from kindaware._server import log as _log
from kindaware._server.failure import ServerError


def diagnose(got: str, log: str) -> ServerError:
    """Return the error about a server that did not become ready.

    Args:
        got: what happened instead.
        log: all that the server printed.
    """
    models = _log.read_failures(log)
    in_use = _log.read_port_in_use(log)
    if models:
        remedy = f"mend {', '.join(map(repr, models))}: the reasons follow"
    elif in_use is not None:
        got = f"{in_use} in use by another program"
        remedy = "choose another port, or let a free one be chosen with 0"
    else:
        unfinished = _log.read_unfinished(log)
        if unfinished:
            got += f" while loading {', '.join(map(repr, unfinished))}"
        remedy = "look at its model.py" if len(unfinished) == 1 else "look at the end of its log"
    parts = [message("tritonserver", expected="a server that is ready", got=got, remedy=remedy)]
    parts += [f"model {name!r}: {_strip_kind(reason)}" for name, reason in models.items()]
    ending = _log.last_lines(log)
    if ending:
        parts.append("the log ends:\n" + ending)
    return ServerError("\n\n".join(parts), models=models, log=log)


def _strip_kind(reason: str) -> str:
    """Return a model's reason without the server's own `Internal: `."""
    return reason.removeprefix("Internal: ")
