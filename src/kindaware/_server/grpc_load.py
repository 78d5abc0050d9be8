"""Loading a model over gRPC: over HTTP, server 2.51 keeps most other connections waiting for as long."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from kindaware._errors import ConfigError
from kindaware._server.endpoint import refusal

_METHOD = "/inference.GRPCInferenceService/RepositoryModelLoad"
_PREFIX = "triton-grpc-protocol-"
"""What the server wants before the name of a header over gRPC."""
_MODEL_NAME = 2
"""The number of the field `model_name` in a RepositoryModelLoadRequest."""


def check_grpc() -> None:
    """Refuse to go on without the package.

    Raises:
        ConfigError: it isn't installed.
    """
    if importlib.util.find_spec("grpc") is None:
        raise ConfigError.of(
            "heal",
            expected="grpc, over which models are loaded",
            got="no such package",
            remedy="pip install grpcio, or don't heal",
        )


def load_over_grpc(address: str, model: str, headers: Mapping[str, str] | None = None) -> None:
    """Load a model; waits without a limit until it is ready.

    Args:
        address: host and port of gRPC.
        model: its name.
        headers: those that a request over HTTP would have.

    Raises:
        ServerError: with the server's words, or it can't be reached.
    """
    import grpc

    # This machine is nobody's proxy.
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        load = channel.unary_unary(_METHOD)
        try:
            load(
                write_request(model),
                metadata=[(_PREFIX + name.lower(), value) for name, value in (headers or {}).items()],
            )
        except grpc.RpcError as error:
            reason = str(error.details())
            raise refusal(f"load of model '{model}'", address, reason, "the server's log has more") from error


def write_request(model: str) -> bytes:
    """Return a RepositoryModelLoadRequest, as protobuf writes it."""
    name = model.encode()
    length, size = b"", len(name)
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([_MODEL_NAME << 3 | 2]) + length + bytes([size]) + name
