"""One replica: a tritonserver on its node, and the requests that Serve hands to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kindaware._placement.threads import count_cores
from kindaware._server.failure import ServerError
from kindaware._server.repository import find_models, list_repositories
from kindaware._server.repository_digest import digest_repositories
from kindaware._server.server import TritonServer
from kindaware.client._metadata import Arrays, Metadata
from kindaware.client._transport import Call
from kindaware.ray._environment import read_start_environment, server_environment
from kindaware.ray._forwarder import Forwarder
from kindaware.ray._health import Health
from kindaware.ray._load_meter import LoadMeter, count_instances
from kindaware.ray._models import sequence_error

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from kindaware.client._async_transport import AsyncTransport

_STOP_SECONDS = 10.0
"""How long the server's end may take: Serve ends a replica when its requests are answered."""
_DRAIN_SECONDS = 5.0
"""For what has reached the server since, or otherwise than through Serve."""
_TIMEOUT_SECONDS = 60.0


class TritonReplica:
    """The deployment's class: each replica runs one server with all models, and ends with it.

    `triton_app` makes a deployment of it. The server listens on the node's loopback address alone.

    Args:
        repository: absolute paths of one or several repositories.
        digest: of the repositories' files; None accepts any.
        kind: `CPU` puts every instance on the CPU.
        settings: `MODEL.KEY=VALUE` each, over what the configurations say.
        args: further arguments for the server.
        tritonserver: path of the executable; by default as for `TritonServer`.
        startup_timeout_seconds: how long loading the models may take.

    Raises:
        ServerError: the server can't be started, a model can't be loaded, or the files are others than those
            that were deployed.
        ConfigError: a model needs all requests of a sequence, and there is more than one replica.
    """

    def __init__(
        self,
        repository: str | Sequence[str],
        *,
        digest: str | None = None,
        kind: str | None = None,
        settings: Sequence[str] = (),
        args: Sequence[str] = (),
        tritonserver: str | None = None,
        startup_timeout_seconds: float = 600.0,
    ) -> None:
        repositories = list_repositories(repository)
        _check_digest(repositories, digest)
        # By name, since a server that is to be drained has to be able to unload them.
        self._models = list(find_models(repositories))
        self._server = TritonServer(
            repositories,
            models=self._models or None,
            kind=kind,
            settings=settings,
            args=args,
            tritonserver=tritonserver,
            startup_timeout_seconds=startup_timeout_seconds,
            stop_timeout_seconds=_STOP_SECONDS,
            env=_environment_of_replica(),
        ).start()
        try:
            configs = {one.name: self._server.model_config(one.name) for one in self._ready_models()}
            _check_sequences(configs)
            self._health = Health(self._server)
            self._forwarder = Forwarder(self._server.http_url)
            self._meter = LoadMeter({name: count_instances(config) for name, config in configs.items()})
        except BaseException:
            self._server.stop()
            raise
        self._transport: AsyncTransport | None = None
        self._metadata: dict[tuple[str, str], Metadata] = {}

    async def __call__(self, request: Request) -> Response:
        """Answer a request over HTTP in Triton's form, binary tensors and event streams included."""
        return await self._forwarder.forward(request)

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: str = "",
        timeout_seconds: float = _TIMEOUT_SECONDS,
        **options: Any,
    ) -> Arrays:
        """Send a request to a model, for `handle.infer.remote`.

        Args:
            model: its name.
            inputs: arrays, or what becomes them, by input name; without a batch dimension for one row.
            version: of the model; chosen by the server by default.
            timeout_seconds: how long the answer may take.
            options: `outputs`, `request_id`, `parameters`, `sequence_id`, `sequence_start` and
                `sequence_end`, as of `ModelClient.infer`.

        Returns:
            Arrays by output name, as of `ModelClient.infer`.

        Raises:
            ModelClientError: the server rejects the request, or the inputs don't fit the model.
        """
        call, is_row = await self._make_call(model, version, inputs, timeout_seconds, options)
        found = await self._open().infer(model, version, call)
        return _rows(found) if is_row else found

    async def stream(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: str = "",
        timeout_seconds: float = _TIMEOUT_SECONDS,
        **options: Any,
    ) -> AsyncIterator[Arrays]:
        """Send a request to a streaming model, for `handle.options(stream=True).stream.remote`.

        Yields the outputs of each answer as it comes; for the arguments see `infer`. The time limit is that
        of one answer.

        Raises:
            ModelClientError: while iterating, if an answer is an error, or for the reasons `infer` gives.
        """
        call, is_row = await self._make_call(model, version, inputs, timeout_seconds, options)
        async for found in self._open().stream(model, version, call):
            yield _rows(found) if is_row else found

    async def metadata(self, model: str, version: str = "") -> Metadata:
        """Return the names, data types and shapes of a model's tensors.

        Raises:
            ModelClientError: there is no such model.
        """
        key = (model, version)
        if key not in self._metadata:
            self._metadata[key] = await self._open().metadata(model, version, _TIMEOUT_SECONDS)
        return self._metadata[key]

    async def check_health(self) -> None:
        """Raise if the server or a model is not what it was; Serve asks, and replaces the replica."""
        await asyncio.to_thread(self._health.check)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return what waits in the server, and how busy it is, for `PendingRequests`."""
        metrics = await self._forwarder.text(self._server.metrics_url, "/metrics")
        statistics = await self._forwarder.json("/v2/models/stats")
        return self._meter.read(metrics, statistics["model_stats"])

    def __del__(self) -> None:
        """End the server; Serve calls it when the requests that it has handed over are answered."""
        if hasattr(self, "_server"):
            self._server.stop(drain_seconds=_DRAIN_SECONDS if self._models else None)

    async def _make_call(
        self,
        model: str,
        version: str,
        inputs: Mapping[str, Any],
        timeout_seconds: float,
        options: Mapping[str, Any],
    ) -> tuple[Call, bool]:
        metadata = await self.metadata(model, version)
        return Call.of(metadata, inputs, timeout_seconds=timeout_seconds, **options)

    def _open(self) -> AsyncTransport:
        """Return the connection over gRPC, which belongs to the running event loop."""
        if self._transport is None:
            from kindaware.client._async_transport import AsyncTransport

            self._transport = AsyncTransport(self._server.grpc_url)
        return self._transport

    def _ready_models(self) -> list[Any]:
        return [one for one in self._server.models() if one.state == "READY"]


def _check_digest(repositories: Sequence[str], digest: str | None) -> None:
    """Refuse to serve other files than those that were deployed."""
    if digest is not None and (found := digest_repositories(repositories)) != digest:
        raise ServerError.of(
            f"model repository {', '.join(repositories)}",
            expected=f"the files that were deployed, with digest {digest}",
            got=f"others, with digest {found}",
            remedy="run kindaware deploy ray again, and serve deploy; or bring the node's copy up to date",
        )


def _check_sequences(configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a model whose sequences Serve would spread over several replicas."""
    from ray import serve

    num_replicas = serve.get_replica_context().world_size
    for name, config in configs.items():
        sequences = config.get("sequence_batching")
        if num_replicas > 1 and sequences is not None and not sequences.get("iterative_sequence"):
            raise sequence_error(name, num_replicas)


def _environment_of_replica() -> dict[str, str | None]:
    import ray

    context: Any = ray.get_runtime_context()
    return server_environment(
        os.environ,
        started_with=read_start_environment(),
        cpus=float(context.get_assigned_resources().get("CPU", 0.0)),
        gpus=context.get_accelerator_ids()["GPU"],
        num_cores=count_cores(),
    )


def _rows(arrays: Arrays) -> Arrays:
    """Return the only row of each output."""
    return {name: array[0] for name, array in arrays.items()}
