"""From where a server may be reached, by whom, and which of its APIs are open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kindaware._errors import OptionError
from kindaware._server.access import LOOPBACK, MANAGEMENT_APIS, check_reach, is_loopback
from kindaware.cli._token import TOKEN_VARIABLE, read_token

EVERYWHERE = "0.0.0.0"
ALL = "all"


@dataclass(frozen=True)
class ServeAccess:
    """What the options about access come to.

    Attributes:
        host: the address to listen on.
        restricted_apis: those that only the command itself may use.
        token: that requests need, or None.
        metrics_host: the address of the metrics, or None for `host`.
    """

    host: str = LOOPBACK
    restricted_apis: tuple[str, ...] = MANAGEMENT_APIS
    token: str | None = None
    metrics_host: str | None = None


def read_access(
    *,
    host: str | None,
    is_public: bool,
    is_insecure: bool,
    token: str | None,
    token_file: Path | None,
    allowed: Sequence[str],
) -> ServeAccess:
    """Read the options about access.

    Beyond loopback the server needs a token or the word that it may do without. The metrics know no token, so
    that with one they stay on loopback.

    Raises:
        OptionError: they contradict each other, or open the server to anybody without saying so.
    """
    token = read_token(token, token_file)
    if token is not None and is_insecure:
        raise OptionError.of(
            "--insecure with a token",
            expected="one of them",
            got="both",
            remedy=f"leave --insecure out, or unset {TOKEN_VARIABLE}",
        )
    host = host or (EVERYWHERE if is_public else LOOPBACK)
    if is_loopback(host) and is_public:
        raise OptionError.of(
            f"--public with --host {host}",
            expected="an address that others can reach",
            got="one of this machine alone",
            remedy="leave one of the two out",
        )
    check_reach(
        host,
        has_token=token is not None,
        is_insecure=is_insecure,
        subject="--public" if is_public else f"--host {host}",
        remedy=f"set {TOKEN_VARIABLE} or pass --token-file FILE; --insecure lets in anybody who gets there",
    )
    return ServeAccess(
        host,
        tuple(one for one in MANAGEMENT_APIS if one not in _read_allowed(allowed)),
        token,
        LOOPBACK if token is not None and not is_loopback(host) else None,
    )


def _read_allowed(allowed: Sequence[str]) -> Sequence[str]:
    for one in allowed:
        if one not in (*MANAGEMENT_APIS, ALL):
            raise OptionError.of(
                f"--allow {one}",
                expected=f"one of {', '.join(MANAGEMENT_APIS)}, {ALL}",
                got=repr(one),
                remedy="correct the name",
            )
    return MANAGEMENT_APIS if ALL in allowed else allowed
