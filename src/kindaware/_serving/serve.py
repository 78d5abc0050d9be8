"""`kindaware.serve`: models out of a program, a notebook or a test, on a real server."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kindaware._errors import ConfigError
from kindaware._server.access import LOOPBACK, MANAGEMENT_APIS, check_reach, is_loopback
from kindaware._server.command import check_version
from kindaware._server.healing.budget import MAX_HEALS, WINDOW_SECONDS
from kindaware._server.healing.control import decide_to_heal
from kindaware._server.location import locate_server
from kindaware._server.server import TritonServer
from kindaware._serving.guard import refuse_in_stub
from kindaware._serving.options import Model, Servable, name_of
from kindaware._serving.repository import Plan, read_plan
from kindaware._serving.served_models import ServedModels


def serve(
    model: Model | Servable | Mapping[str, Model | Servable],
    example: Any = None,
    *,
    name: str | None = None,
    max_batch_size: int | None = None,
    instances: str | None = None,
    settings: Mapping[str, Any] | None = None,
    outputs: Sequence[str] | None = None,
    config: Mapping[str, Any] | None = None,
    host: str = "127.0.0.1",
    http_port: int = 0,
    grpc_port: int = 0,
    metrics_port: int = 0,
    tritonserver: str | os.PathLike[str] | None = None,
    args: Sequence[str] = (),
    env: Mapping[str, str | None] | None = None,
    startup_timeout_seconds: float = 300.0,
    token: str | None = None,
    insecure: bool = False,
    heal: bool | None = None,
    max_heals: int = MAX_HEALS,
    heal_window_seconds: float = WINDOW_SECONDS,
    hang_seconds: float | None = None,
    verbose: bool = True,
    block: bool = False,
) -> ServedModels:
    """Serve a model on a tritonserver of its own, and return when it is ready.

        server = kindaware.serve(Doubler)
        server = kindaware.serve(resnet18(), torch.rand(1, 3, 224, 224), name="resnet18")
        server = kindaware.serve({"a": A, "b": kindaware.Servable(B, instances="cpu*2")})

    Args:
        model: a class derived from KindAwareModel, a torch module, a program of torch.export, or a function;
            or several of them in a mapping by name, with options of their own in a `Servable`.
        example: arguments of one call: by name in a mapping, by position in a tuple, or the only one. Needed
            for a module and a function, and for a class that declares no inputs and outputs.
        name: of the model; by default that of the class or function.
        max_batch_size: most rows in a batch; by default what the class declares, or 32 for what batches.
        instances: such as `cpu*2`, `gpu`, `gpu:0,1` or `gpu:0*2 cpu`; by default one on each GPU, or one on
            the CPU where torch sees no GPU.
        settings: kindaware's settings, such as `{"precision": "bf16-true"}`.
        outputs: of a module or function, the names of the outputs to serve; by default all.
        config: further fields of config.pbtxt, as its JSON has them.
        host: the address to listen on; one that other machines reach takes a token, or `insecure`.
        http_port: 0 picks a free one, for this and the others.
        grpc_port: as above.
        metrics_port: as above.
        tritonserver: path of the executable; by default as for `kindaware serve`.
        args: further arguments for the server.
        env: environment variables for the models to set or, with None as value, to remove.
        startup_timeout_seconds: how long loading the models may take.
        token: that requests must bring; that of `kindaware serve --token`.
        insecure: listen beyond this machine without a token.
        heal: load a model again when its process dies; by default unless `args` choose another
            `--model-control-mode` than explicit. What happens is told to the logger `kindaware.server`.
        max_heals: how often within `heal_window_seconds`; then the model is given up, and stays unloaded:
            see `ServedModels.given_up`.
        heal_window_seconds: as above; 600 by default.
        hang_seconds: with `heal`, how long a call of a model's code may take until its process is killed; by
            default any time.
        verbose: print on standard error what an example has shown.
        block: stay here until Ctrl-C or SIGTERM, after printing where the models are.

    Raises:
        ConfigError: a model can't be served as it is.
        ServerError: the server can't be started, or a model doesn't load; the text has its traceback.
    """
    refuse_in_stub()
    check_reach(
        host,
        has_token=token is not None,
        is_insecure=insecure,
        subject=f"kindaware.serve host={host!r}",
        remedy="pass token=..., or insecure=True to let anybody in who reaches the port",
    )
    options = {
        "example": example,
        "max_batch_size": max_batch_size,
        "instances": instances,
        "settings": settings,
        "outputs": outputs,
        "config": config,
    }
    given = {key: value for key, value in options.items() if value is not None}
    check_version(locate_server(tritonserver))
    plans = [read_plan(each, one) for each, one in _list_models(model, name, given).items()]
    for plan in plans:
        if plan.found is not None and verbose:
            print(plan.found, file=sys.stderr)
    server_options = {
        "tritonserver": tritonserver,
        "host": host,
        "http_port": http_port,
        "grpc_port": grpc_port,
        "metrics_port": metrics_port,
        "args": args,
        "env": env,
        "startup_timeout_seconds": startup_timeout_seconds,
        "restricted_apis": MANAGEMENT_APIS,
        "token": token,
        "metrics_host": None if token is None or is_loopback(host) else LOOPBACK,
        "heal": decide_to_heal(heal, args),
        "max_heals": max_heals,
        "heal_window_seconds": heal_window_seconds,
        "hang_seconds": hang_seconds,
    }
    served = _start(plans, server_options)
    if block:
        served.wait(_describe(served))
    return served


def _list_models(
    model: Model | Servable | Mapping[str, Model | Servable], name: str | None, given: Mapping[str, Any]
) -> dict[str, Servable]:
    """Return the models by name."""
    if not isinstance(model, Mapping):
        if isinstance(model, Servable):
            _refuse_options(given)
            return {name or name_of(model.model): model}
        return {name or name_of(model): Servable(model, **given)}
    _refuse_options({**given, **({"name": name} if name else {})})
    if not model:
        raise ConfigError.of(
            "kindaware.serve",
            expected="at least one model",
            got="none",
            remedy="pass a mapping of models by name",
        )
    return {key: one if isinstance(one, Servable) else Servable(one) for key, one in model.items()}


def _refuse_options(given: Mapping[str, Any]) -> None:
    if given:
        raise ConfigError.of(
            "kindaware.serve",
            expected="options of a model in its Servable",
            got=", ".join(given),
            remedy="write kindaware.Servable(model, ...) with them",
        )


def _start(plans: Sequence[Plan], options: Mapping[str, Any]) -> ServedModels:
    """Write the repository and start the server; leaves nothing behind if that fails."""
    folder = Path(tempfile.mkdtemp(prefix="kindaware-serving-"))
    try:
        repository = folder / "models"
        for plan in plans:
            plan.write(repository)
        # A complete configuration spares the server a process per model.
        args = ["--disable-auto-complete-config"] * all(plan.is_complete for plan in plans)
        args += options["args"]
        server = TritonServer(repository, **{**options, "args": args, "orphans": [folder]})
        server.start()
        try:
            return ServedModels(server, [plan.name for plan in plans], folder, token=options["token"])
        except BaseException:
            server.stop()
            raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _describe(served: ServedModels) -> str:
    """Return where the models are, for a terminal."""
    lines = [
        f"serving {', '.join(served.models)}",
        f"  grpc     {served.url}",
        f"  http     {served.http_url}",
    ]
    return "\n".join([*lines, f"  metrics  {served.metrics_url}/metrics", "Ctrl-C stops it"])
