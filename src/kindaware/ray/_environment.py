"""The environment of a replica's server: the cores and GPUs that Ray has assigned to the replica."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kindaware._placement.threads import SHARE_VARIABLE

_OMP, _GPUS = "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"


def server_environment(
    environment: Mapping[str, str],
    *,
    started_with: Mapping[str, str],
    cpus: float,
    gpus: Sequence[str],
    num_cores: int,
) -> dict[str, str | None]:
    """Return the variables that the server gets in place of the replica's; None removes one.

    The CPU instances divide the replica's cores, unless the operator has set their number: Ray sets
    OMP_NUM_THREADS in each of its processes, for one process that uses all of them. `KIND_GPU` instances see
    the replica's GPUs and no others, as 0, 1 and so on.

    Args:
        environment: of the replica.
        started_with: what of it was there when its process started, before Ray set anything.
        cpus: cores that Ray has assigned.
        gpus: ids of the GPUs that Ray has assigned.
        num_cores: cores that the process may use.
    """
    changes: dict[str, str | None] = {_GPUS: ",".join(gpus)}
    if _OMP in environment and _OMP not in started_with:
        changes[_OMP] = None
    if cpus > 0 and SHARE_VARIABLE not in environment:
        changes[SHARE_VARIABLE] = f"{min(1.0, cpus / num_cores):.6g}"
    return changes


def read_start_environment() -> dict[str, str]:
    """Return the environment that this process was started with."""
    entries = Path("/proc/self/environ").read_bytes().decode(errors="replace").split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)
