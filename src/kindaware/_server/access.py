"""Who may use which of a server's APIs."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kindaware._server.command import read_option
from kindaware._server.failure import ServerOptionError

MANAGEMENT_APIS = ("model-repository", "shared-memory", "trace", "logging")
"""APIs, by Triton's names, that change what a server does, or have it read memory of this machine."""
LOOPBACK = "127.0.0.1"
_OTHER_APIS = ("inference", "metadata", "model-config", "statistics")
"""All others but `health`, which balancers and probes ask."""
_OWNER_KEY = "kindaware-owner"
_TOKEN_KEY = "authorization"
_GRPC_PREFIX = "triton-grpc-protocol-"
"""What the server wants before a header's name over gRPC."""
_OPTIONS = ("--http-restricted-api", "--grpc-restricted-protocol")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,}")


def bearer_headers(token: str | None, scheme: str) -> dict[str, str]:
    """Return the headers that a client's requests need for a token; none without one.

    Args:
        token: of the server.
        scheme: `grpc` or `http`.
    """
    if token is None:
        return {}
    return {f"{_GRPC_PREFIX if scheme == 'grpc' else ''}{_TOKEN_KEY}": f"Bearer {token}"}


def is_loopback(host: str) -> bool:
    """Return whether an address or name is this machine's own, which no other reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_reach(host: str, *, has_token: bool, is_insecure: bool, subject: str, remedy: str) -> None:
    """Refuse to open a server to other machines without a token, unless that is wanted.

    Args:
        host: the address to listen on.
        has_token: whether requests must bring one.
        is_insecure: whether it is wanted.
        subject: of the error.
        remedy: of the error.

    Raises:
        ServerOptionError: it would be open.
    """
    if not (is_loopback(host) or has_token or is_insecure):
        raise ServerOptionError.of(
            subject,
            expected="a token that clients must have, or a word that anybody may come",
            got="neither",
            remedy=remedy,
        )


@dataclass(frozen=True)
class Access:
    """Which of a server's APIs only its owner may use, and what the others need.

    Args:
        restricted: APIs of `MANAGEMENT_APIS` for the owner alone.
        token: that every request needs but those of `health`; None for no token.

    Raises:
        ServerOptionError: an API or the token can't be one.
    """

    restricted: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    _secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)

    def __post_init__(self) -> None:
        unknown = [one for one in self.restricted if one not in MANAGEMENT_APIS]
        if unknown:
            raise ServerOptionError.of(
                "restricted_apis",
                expected=f"names out of {', '.join(MANAGEMENT_APIS)}",
                got=repr(unknown[0]),
                remedy="correct the name",
            )
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ServerOptionError.of(
                "token",
                expected="at least 16 letters, digits and . _ ~ + / -",
                got=f"{len(self.token)} characters" + (", others among them" if len(self.token) > 15 else ""),
                remedy="make one with: python3 -c 'import secrets; print(secrets.token_urlsafe())'",
            )

    def options(self) -> list[str]:
        """Return the options that the server is started with.

        Users of this machine who may list processes can read them there: the server takes them nowhere else.
        """
        groups = [(self.restricted, f"{_OWNER_KEY}={self._secret}")] if self.restricted else []
        if self.token is not None:
            open_to_token = [one for one in MANAGEMENT_APIS if one not in self.restricted]
            groups.append(((*_OTHER_APIS, *open_to_token), f"{_TOKEN_KEY}=Bearer {self.token}"))
        return [f"{option}={','.join(apis)}:{header}" for apis, header in groups for option in _OPTIONS]

    def headers(self) -> Mapping[str, str]:
        """Return the headers with which the owner's requests over HTTP may use every API."""
        owner = {_OWNER_KEY: self._secret} if self.restricted else {}
        return {**owner, **bearer_headers(self.token, "http")}

    def check_args(self, args: Sequence[str]) -> None:
        """Refuse restrictions of the caller's beside these: the server takes one for each API.

        Raises:
            ServerOptionError: `args` has one.
        """
        found = next((one for one in _OPTIONS if read_option(args, one) is not None), None)
        if found is not None and (self.restricted or self.token is not None):
            raise ServerOptionError.of(
                f"server option {found}",
                expected="restrictions of APIs in one place",
                got="some in args beside restricted_apis and token",
                remedy="leave it out, or restrict nothing else: kindaware serve --allow all without a token, "
                "in Python no restricted_apis and no token",
            )
