"""What `kindaware serve` prints once the server is ready."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kindaware._server.access import is_loopback
from kindaware._server.instances import list_instances
from kindaware._server.log import InstanceReport
from kindaware._server.server import TritonServer
from kindaware.cli._table import align
from kindaware.cli.serve._examples import Examples, write_examples

HEADER = ("model", "version", "instance", "kind", "device")
NOT_REPORTED = "not reported"
WHEEL_DATE = "October 2024"
"""When NVIDIA released Triton 2.51, which the extra `server` brings."""
_NUM_EXAMPLES = 8


def write_block(server: TritonServer, settings: Sequence[str] = (), *, has_all_examples: bool = False) -> str:
    """Write addresses, server, instances and first requests of a server that is ready.

    Args:
        server: which runs.
        settings: what was changed in its models' configurations.
        has_all_examples: whether every model's requests of curl and Python are written.
    """
    location = server.location
    addresses = [
        ("http", server.http_url),
        ("grpc", server.grpc_url),
        ("metrics", f"{server.metrics_url}/metrics"),
        *([("health", f"{server.health_url}/healthz")] if server.health_url else []),
        ("server", f"Triton {server.server_version} {location.origin}: {location.path}"),
        ("log", str(server.log_path)),
        *([] if server.heals else [("heal", "off: a model whose process dies stays dead")]),
        *(("set", one) for one in settings),
    ]
    rows = list_rows(server)
    table = align([HEADER, *rows], left=len(HEADER)) if rows else ["no models are loaded"]
    lines = [
        "Triton is ready",
        *align(addresses, left=2),
        "",
        *table,
        *list_not_ready(server),
        *_list_examples(server, is_full=has_all_examples),
        "",
        *list_notes(server),
        "Ctrl-C stops it",
    ]
    return "\n".join(lines)


def list_notes(server: TritonServer) -> list[str]:
    """Return what whoever runs the server has to know about its safety."""
    notes = []
    if not is_loopback(server.host):
        who = "who has the token" if server.needs_token else "who reaches the port: it was started --insecure"
        notes.append(f"It listens on {server.host}, and serves everybody {who}")
    if server.location.is_wheel:
        notes.append(
            f"The wheel's server is of {WHEEL_DATE} and lacks later security fixes: deploy on a current "
            "container"
        )
    return notes


def _list_examples(server: TritonServer, *, is_full: bool) -> list[str]:
    """Return requests to paste: all of them for one model or on request, else one line for each model."""
    models = sorted({status.name for status in server.models() if status.state == "READY"})
    configs = [{"name": model, **server.model_config(model)} for model in models]
    found = [
        write_examples(config, server.http_url, server.grpc_url, needs_token=server.needs_token)
        for config in configs
    ]
    if not models:
        return []
    if is_full or len(models) == 1:
        lines = [line for one in found for line in ("", *_write_all(one))]
        return ["", "In another terminal:", *lines[1:]]
    more = [f"  ... and {len(models) - _NUM_EXAMPLES} more"] if len(models) > _NUM_EXAMPLES else []
    return [
        "",
        "In another terminal, or with curl or Python as --examples shows:",
        *(f"  {one.infer}" for one in found[:_NUM_EXAMPLES]),
        *more,
    ]


def _write_all(examples: Examples) -> list[str]:
    """Return a model's requests, to be pasted into a shell or into Python."""
    curl = (
        [examples.curl]
        if examples.curl
        else ["# curl: Triton takes no JSON for this model's types, or for a sequence that streams"]
    )
    return [examples.infer, "", *curl, "", *examples.python.split("\n")]


def list_rows(server: TritonServer) -> list[tuple[str, ...]]:
    """Return one row per instance of every version that is ready, in the order of `HEADER`."""
    ready = [status for status in server.models() if status.state == "READY"]
    configs = {status.name: server.model_config(status.name) for status in ready}
    rows = [
        (status.name, status.version, instance, kind)
        for status in sorted(ready, key=lambda status: (status.name, status.version))
        for instance, kind in list_instances(configs[status.name]) or [("-", "-")]
    ]
    devices = assign_devices(rows, server.instances())
    return [(*row, device) for row, device in zip(rows, devices, strict=True)]


def list_not_ready(server: TritonServer) -> list[str]:
    """Return a line for each version that is loaded and says that it is not ready."""
    return [
        f"  {status.name} {status.version} is loaded, and says that it is not ready"
        for status in server.models()
        if status.state == "READY" and not server.is_model_ready(status.name, status.version)
    ]


def assign_devices(rows: Sequence[tuple[str, str, str, str]], reports: Iterable[InstanceReport]) -> list[str]:
    """Return the device of each instance, where it was reported and can be told.

    A report names the instance but not its model. Where instances share a name, as on several GPUs, their
    reports are handed out in the order of their devices; where they belong to different models or versions
    and are on different devices, nothing can be told.

    Args:
        rows: model, version, instance and kind of each instance.
        reports: in the order of the log; of one name, the last ones count, for a model can be reloaded.
    """
    by_name: dict[str, list[str]] = {}
    for report in reports:
        by_name.setdefault(report.name, []).append(report.device)
    devices = [NOT_REPORTED] * len(rows)
    for name, reported in by_name.items():
        places = [place for place, row in enumerate(rows) if row[2] == name]
        last = sorted(reported[-len(places) :]) if places else []
        owners = {rows[place][:2] for place in places}
        if len(last) == len(places) and (len(owners) == 1 or len(set(last)) == 1):
            for place, device in zip(places, last, strict=True):
                devices[place] = device
    return devices
