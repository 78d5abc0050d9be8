"""A server that somebody else has started, on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kindaware._server.failure import ServerError
from kindaware._server.healing.control import OPTION
from kindaware._server.healing.stubs import is_running
from kindaware._triton.server_process import read_server_option

_NAME = "tritonserver"
_DEFAULT_PORT = "8000"


def find_server(port: int) -> int | None:
    """Return the process of the server that listens for HTTP at a port; None if this process sees none.

    Raises:
        ServerError: there are several for this port, in namespaces of their own.
    """
    found = [
        pid
        for pid in _list_servers()
        if (read_server_option(pid, "--http-port") or _DEFAULT_PORT) == str(port)
    ]
    if len(found) > 1:
        raise ServerError.of(
            "tritonserver",
            expected=f"one process with --http-port={port}",
            got=f"processes {', '.join(map(str, found))}",
            remedy="name one with --pid",
        )
    return found[0] if found else None


def check_server(pid: int, *, heals: bool) -> None:
    """Refuse a process that is no server, or one that loads no models on request.

    Raises:
        ServerError: with how to start it.
    """
    if pid not in _list_servers():
        raise ServerError.of(
            f"process {pid}", expected="a tritonserver", got="none", remedy="correct --pid, or leave it out"
        )
    mode = read_server_option(pid, OPTION)
    if heals and mode != "explicit":
        raise ServerError.of(
            f"tritonserver, process {pid}",
            expected=f"{OPTION}=explicit, to load models again",
            got=f"{OPTION}={mode}" if mode else f"no {OPTION}",
            remedy="start it so, with --load-model=* for all models; or --no-heal, which only tells",
        )


def _list_servers() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name = (entry / "comm").read_text().strip()
            except OSError:
                continue
            if name == _NAME and is_running(int(entry.name)):
                yield int(entry.name)
