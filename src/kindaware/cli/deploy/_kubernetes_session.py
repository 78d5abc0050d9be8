"""One run of `kindaware deploy kubernetes`, from its options to the files."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from kindaware._authoring.scaffold import check_free, write_directories
from kindaware._deployment.files import write_texts
from kindaware._deployment.healing import Healing
from kindaware._deployment.kubernetes import Autoscaler, make_files
from kindaware._deployment.release import Release
from kindaware._deployment.workload import MIB, Workload, write_bytes
from kindaware._errors import OptionError
from kindaware.cli._table import align
from kindaware.cli.deploy._needs import Needs, Sizes, find_needs


@dataclass(frozen=True)
class Choices:
    """What the command line says, without the sizes."""

    image: str
    name: str | None
    namespace: str
    release: Release
    replicas: int
    max_replicas: int | None
    autoscaler: Autoscaler
    pending: int | None
    prometheus: str
    mig_profile: str
    startup_seconds: int
    drain_seconds: int
    pause_seconds: int
    healing: Healing | None


def read_healing(*, heals: bool, hang_seconds: float | None) -> Healing | None:
    """Return how models are watched, or None.

    Raises:
        OptionError: `--hang-seconds` without `--heal`.
    """
    if not heals and hang_seconds is not None:
        raise OptionError.of(
            "--hang-seconds", expected="--heal with it", got="none", remedy="add it, or leave this out"
        )
    return Healing(hang_seconds) if heals else None


def write_deployment(
    repository: Path,
    output: Path,
    choices: Choices,
    sizes: Sizes,
    *,
    timeout: float,
    is_forced: bool,
    is_json: bool,
) -> None:
    """Write the files, and print what they ask for.

    Raises:
        KindAwareError: an option, a model or the folder is not as it should be.
    """
    check_free(output, force=is_forced)
    needs = find_needs(repository, sizes, seconds=timeout)
    workload = make_workload(choices, needs)
    files = make_files(
        workload,
        autoscaler=choices.autoscaler,
        prometheus=choices.prometheus,
        mig_profile=choices.mig_profile,
        healing=choices.healing,
    )
    write_directories({output: write_texts(files, "kindaware deploy kubernetes")}, force=is_forced)
    if is_json:
        typer.echo(json.dumps(_as_document(output, workload, needs, list(files))))
    else:
        typer.echo("\n".join(_describe(output, workload, needs, heals=choices.healing is not None)))


def make_workload(choices: Choices, needs: Needs) -> Workload:
    """Put what was chosen and what is needed together."""
    return Workload(
        name=choices.name or _name_of(choices.image),
        namespace=choices.namespace,
        image=choices.image,
        models=tuple(one.name for one in needs.models),
        release=choices.release,
        num_stubs=needs.num_stubs,
        num_gpus=needs.num_gpus,
        has_sequences=any(one.has_sequences for one in needs.models),
        num_cores=needs.num_cores,
        shm_bytes=needs.shm_bytes,
        memory_bytes=needs.memory_bytes,
        startup_seconds=choices.startup_seconds,
        drain_seconds=choices.drain_seconds,
        pause_seconds=choices.pause_seconds,
        min_replicas=choices.replicas,
        max_replicas=choices.max_replicas or 4 * choices.replicas,
        pending_requests=choices.pending or needs.pending_requests,
    )


def _name_of(image: str) -> str:
    """Return the last part of an image's name, without its tag, as a name for objects."""
    last = image.partition("@")[0].rpartition("/")[2].partition(":")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", last).strip("-")


def _describe(output: Path, workload: Workload, needs: Needs, *, heals: bool) -> list[str]:
    rows = [["model", "processes", "rows", "a full batch", "memory each"]]
    for one in needs.models:
        batch = f"{one.batch_bytes / MIB:.1f} MiB" if one.batch_bytes else "-"
        peak = f"{one.peak_bytes / MIB:.0f} MiB" if one.peak_bytes else "-"
        rows.append([one.name, str(one.num_instances), str(one.rows), batch, peak])
    gpus = f", {needs.num_gpus} GPU" if needs.num_gpus else ""
    where = "overlays/gpu" if needs.num_gpus else "base"
    lines = [
        *align(rows, left=1),
        "",
        f"A pod of {workload.image}, Triton {workload.release}: {needs.num_cores} cores{gpus}, "
        f"{write_bytes(needs.memory_bytes)} of memory with {write_bytes(needs.shm_bytes)} of /dev/shm.",
        f"More pods above {workload.pending_requests} waiting requests each, "
        f"{workload.min_replicas} to {workload.max_replicas}.",
    ]
    if workload.has_sequences:
        lines.append("Requests over HTTP stay with a pod by the client's address, for sequences.")
    if heals:
        lines.append("A sidecar loads dead models again: build the image with --extra cli.")
    return [*lines, "", f"  kubectl apply -k {output}/{where}"]


def _as_document(output: Path, workload: Workload, needs: Needs, files: list[str]) -> dict[str, Any]:
    return {
        "folder": str(output),
        "files": sorted(files),
        "models": [
            {
                "name": one.name,
                "processes": one.num_instances,
                "rows": one.rows,
                "batch_bytes": one.batch_bytes,
                "peak_bytes": one.peak_bytes,
            }
            for one in needs.models
        ],
        "cores": needs.num_cores,
        "gpus": needs.num_gpus,
        "memory_bytes": needs.memory_bytes,
        "shm_bytes": needs.shm_bytes,
        "pending_requests": workload.pending_requests,
    }
