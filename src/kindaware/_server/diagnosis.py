"""Why a server did not become ready, read from its log."""

from __future__ import annotations

import re

from kindaware._errors import message
from kindaware._server import log as _log
from kindaware._server.failure import ServerError

_NO_GPU = "has kind KIND_GPU but no GPUs are available"
_ON_CPU = "kindaware serve --kind CPU, or TritonServer(kind='CPU'), puts all instances on the CPU"
_HELD = (
    "Its process has failed and does not end: a thread that it has started, and that is no daemon, holds it."
)
_HINTS = (
    (
        re.compile(r"module '[^']*' has no attribute 'TritonPythonModel'"),
        "Triton looks for a class with this name in model.py: rename yours.",
    ),
    (
        re.compile(r"ModuleNotFoundError: No module named '(?P<name>[^'.]+)"),
        "Its process takes packages from the python3 first on PATH: python3 -m pip install {name}, or put "
        "the module beside model.py.",
    ),
)
"""What a reason of the server's leaves open, and what to do about it; a name in it is filled in."""


def diagnose(got: str, log: str, kind: type[ServerError] = ServerError) -> ServerError:
    """Return the error about a server that did not become ready.

    Args:
        got: what happened instead.
        log: all that the server printed.
        kind: of error.
    """
    unfinished = _log.read_unfinished(log)
    models = _log.read_failures(log)
    for model, reason in _log.read_stub_errors(log, unfinished).items():
        if model in unfinished:
            models.setdefault(model, f"{reason}\n\n{_HELD}")
    unfinished = [model for model in unfinished if model not in models]
    in_use = _log.read_port_in_use(log)
    words, usage, _ = log.partition(_log.USAGE)
    ending = _log.last_lines(words if usage else log)
    if unfinished and in_use is None:
        got += f" while loading {', '.join(map(repr, unfinished))}"
    if models:
        remedy = f"correct {', '.join(map(repr, models))}: the reasons follow"
        if any(_NO_GPU in reason for reason in models.values()):
            remedy += f"; on a machine without a GPU, {_ON_CPU}"
    elif in_use is not None:
        got = f"{in_use} in use by another program"
        remedy = "choose another port, or let a free one be chosen with 0"
    elif usage:
        remedy = "correct the options that it is given: it has printed its usage"
    elif len(unfinished) == 1:
        remedy = "look at its model.py"
    elif ending:
        remedy = "look at the end of its log"
    else:
        remedy = "check that it is a tritonserver: it has printed nothing"
    parts = [message("tritonserver", expected="a server that is ready", got=got, remedy=remedy)]
    parts += [f"model {name!r}: {_explain(reason)}" for name, reason in models.items()]
    if ending:
        parts.append("the log ends:\n" + ending)
    return kind("\n\n".join(parts), models=models, log=log)


def _explain(reason: str) -> str:
    """Return a model's reason without the server's own `Internal: `, and what to do where it doesn't say."""
    hints = [hint.format_map(found.groupdict()) for text, hint in _HINTS if (found := text.search(reason))]
    return "\n\n".join([reason.removeprefix("Internal: ").rstrip("\n"), *hints])
