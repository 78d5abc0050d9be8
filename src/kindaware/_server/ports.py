"""The three ports of a server: chosen where the caller leaves them open, checked where not."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Mapping
from contextlib import ExitStack

from kindaware._server.failure import ServerError, ServerOptionError

CHOICE = range(20000, 32000)
"""Ports to choose from: below those that the kernel gives to outgoing connections. The server binds only when
its models are loaded, so a chosen port has to stay free for a while."""


def choose_ports(
    host: str, wanted: Mapping[str, int], hosts: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Choose free ports for a server, in place of every 0.

    Args:
        host: the address to listen on.
        wanted: ports by the name of their option, such as `--http-port`.
        hosts: other addresses, by the name of the port's option.

    Raises:
        ServerError: a port is taken, not allowed, out of range or given twice, or `host` is not an address of
            this machine.
    """
    chosen: dict[str, int] = {}
    with ExitStack() as held:
        for option, port in sorted(wanted.items(), key=lambda item: item[1] == 0):
            if not 0 <= port <= 65535:
                raise _refusal(option, f"{port}", expected="a port from 0 to 65535", kind=ServerOptionError)
            if port and port in chosen.values():
                got = f"{port} for two services"
                raise _refusal(option, got, expected="ports that differ", kind=ServerOptionError)
            address = (hosts or {}).get(option, host)
            listener = _listen(address, port, option) if port else _listen_anywhere(address, option)
            held.enter_context(listener)
            chosen[option] = listener.getsockname()[1]
    return chosen


def _listen_anywhere(host: str, option: str) -> socket.socket:
    """Return a listening socket on a free port."""
    for port in random.sample(CHOICE, 100):
        try:
            return _listen(host, port, option)
        except _PortTakenError:
            continue
    return _listen(host, 0, option)


def _listen(host: str, port: int, option: str) -> socket.socket:
    """Return a listening socket, made as the server makes its own."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _refusal("--host", f"{host!r} ({error})", expected="an address of this machine") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise _refusal("--host", f"{host!r}", expected="an address of this machine") from error
        if error.errno == errno.EADDRINUSE:
            got = f"{port}, which another program listens on at {host}"
            raise _refusal(option, got, expected="a free port", kind=_PortTakenError) from error
        raise _refusal(option, f"{port} ({error.strerror})", expected="a port you may use") from error
    return listener


class _PortTakenError(ServerError):
    """Another program listens there."""


def _refusal(option: str, got: str, *, expected: str, kind: type[ServerError] = ServerError) -> ServerError:
    """Return the error about one option."""
    if option == "--host":
        remedy = "use 127.0.0.1, or 0.0.0.0 for all addresses"
    else:
        remedy = "choose another, or let a free one be chosen with 0"
    in_python = option.removeprefix("--").replace("-", "_")
    return kind.of(f"{option}, in Python {in_python}", expected=expected, got=got, remedy=remedy)
