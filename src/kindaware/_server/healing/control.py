"""Whether a server loads models on request, which healing needs."""

from __future__ import annotations

from collections.abc import Sequence

from kindaware._server.command import read_option
from kindaware._server.failure import ServerOptionError

OPTION = "--model-control-mode"
_SECURED = ("--grpc-use-ssl", "--grpc-use-ssl-mutual")
_NO = ("false", "0", "no", "off")


def read_obstacle(args: Sequence[str]) -> str:
    """Return the option by which a user keeps the server from loading models on request; empty for none."""
    mode = read_option(args, OPTION)
    if mode not in (None, "explicit"):
        return f"{OPTION}={mode}"
    if read_option(args, "--allow-grpc") in _NO:
        return "--allow-grpc=false"
    secured = [one for one in _SECURED if read_option(args, one) not in (None, *_NO)]
    return secured[0] if secured else ""


def decide_to_heal(wanted: bool | None, args: Sequence[str]) -> bool:
    """Return whether models are healed: unless the user says no, or has given the server another mode."""
    return not read_obstacle(args) if wanted is None else wanted


def check_can_load(args: Sequence[str]) -> None:
    """Refuse a server that loads no models on request.

    Raises:
        ServerOptionError: it was given another mode.
    """
    obstacle = read_obstacle(args)
    if obstacle:
        raise ServerOptionError.of(
            "heal",
            expected=f"{OPTION}=explicit, which it sets itself, and gRPC without TLS",
            got=obstacle,
            remedy="leave that out, or don't heal",
        )
