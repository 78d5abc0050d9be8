"""A real tritonserver, and the requests that its models get."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from benchmarks.networks import NETWORKS
from benchmarks.servers.repository import Model, Served, ServedText, repository
from benchmarks.servers.target import Protocol, Target, text_target, triton_target
from kindaware.testing import ServerError, TritonServer

START_SECONDS = 1800.0
"""Long enough for networks that are compiled while they load."""

NO_AUTO_COMPLETE = "--disable-auto-complete-config"
"""The configurations are complete: no process per model that would complete them while the server starts."""


@contextlib.contextmanager
def tritonserver(models: Iterable[Model], say: Callable[[str], None]) -> Iterator[TritonServer]:
    """Serve models on a real tritonserver; waits until all are ready.

    A start that fails is repeated once, and `say` is told: tritonserver 2.51.0 now and then ends itself while
    many stubs start on a busy machine.

    Raises:
        ServerError: it does not start the second time either.
    """
    with repository(models) as folder:
        server = TritonServer(folder, args=[NO_AUTO_COMPLETE], startup_timeout_seconds=START_SECONDS)
        try:
            server.start()
        except ServerError as error:
            say(f"RETRY: the server did not start, trying once more ({str(error).splitlines()[0]})")
            server.start()
        try:
            yield server
        finally:
            server.stop()


def target_of(server: TritonServer, served: Served, protocol: Protocol) -> Target:
    """Return the request of one row that a model of a running server gets."""
    return triton_target(
        protocol, address_of(server, protocol), served.name, NETWORKS[served.network].sample(1)
    )


def text_target_of(server: TritonServer, served: ServedText, protocol: Protocol) -> Callable[[int], Target]:
    """Return what makes the request for a text of so many tokens."""
    return partial(text_target, protocol, address_of(server, protocol), served.name)


def address_of(server: TritonServer, protocol: Protocol) -> str:
    """Return where a running server takes requests."""
    return server.http_url if protocol == "http" else server.grpc_url
