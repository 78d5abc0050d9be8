"""`kindaware deploy kubernetes`: the command line."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from kindaware.cli._shared_options import HangSeconds, OutputFolder, Overwrites, PrintsDocument


class AutoscalerKind(str, Enum):
    """What --autoscaler takes."""

    HPA = "hpa"
    KEDA = "keda"
    NONE = "none"


def deploy_kubernetes(
    repository: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL_DIR|REPOSITORY", help="The models that are in the image.", show_default=False
        ),
    ],
    image: Annotated[
        str, typer.Option(metavar="NAME", help="The image, with its registry and tag.", show_default=False)
    ],
    output: OutputFolder,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the objects.", show_default="the image's")
    ] = None,
    namespace: Annotated[
        str, typer.Option(metavar="NAME", help="Namespace of the objects.", show_default="that of kubectl")
    ] = "",
    triton: Annotated[
        str, typer.Option(metavar="YY.MM", help="Triton's release in the image; the probes depend on it.")
    ] = "26.07",
    replicas: Annotated[
        int, typer.Option(min=1, metavar="N", help="Pods; the fewest, with an autoscaler.")
    ] = 2,
    max_replicas: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Most pods of an autoscaler.", show_default="4 times --replicas"
        ),
    ] = None,
    autoscaler: Annotated[
        AutoscalerKind,
        typer.Option(
            metavar="hpa|keda|none",
            help="What adds pods when requests wait: prometheus-adapter's metrics, KEDA, or nothing.",
        ),
    ] = AutoscalerKind.HPA,
    pending: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Waiting requests per pod above which there should be more pods.",
            show_default="a batch for each instance",
        ),
    ] = None,
    prometheus: Annotated[
        str, typer.Option(metavar="URL", help="Prometheus in the cluster, for KEDA.")
    ] = "http://prometheus-operated.monitoring:9090",
    cpus: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Cores of a pod.",
            show_default="one for the server, and one per instance or its kindaware.num_threads",
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="GPUs of a pod.", show_default="those that the models ask for"),
    ] = None,
    mig_profile: Annotated[
        str, typer.Option(metavar="PROFILE", help="The part of a GPU in the overlay gpu-mig.")
    ] = "1g.10gb",
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory of a pod.", show_default="measured: the models are loaded"),
    ] = None,
    shm_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Size of /dev/shm.", show_default="two full batches of every instance"
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TENSOR:3,224,224",
            help="Largest sizes of one row of an input or output whose dims have -1; repeatable.",
            show_default=False,
        ),
    ] = None,
    text_bytes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Bytes of the longest text.", show_default=False)
    ] = None,
    heals: Annotated[
        bool,
        typer.Option(
            "--heal", help="Add a sidecar that loads a model again when one of its processes has died."
        ),
    ] = False,
    hang_seconds: HangSeconds = None,
    startup: Annotated[
        int, typer.Option("--startup-seconds", min=5, metavar="SECONDS", help="How long the models may load.")
    ] = 600,
    drain: Annotated[
        int,
        typer.Option(
            "--drain-seconds", min=0, metavar="SECONDS", help="How long requests may go on at the end."
        ),
    ] = 45,
    pause: Annotated[
        int,
        typer.Option(
            "--pause-seconds",
            min=0,
            metavar="SECONDS",
            help="From a pod's end in the Service to the server's SIGTERM.",
        ),
    ] = 10,
    timeout: Annotated[
        float,
        typer.Option(min=1, metavar="SECONDS", help="Seconds that loading a model and its request may take."),
    ] = 300.0,
    is_forced: Overwrites = False,
    is_json: PrintsDocument = False,
) -> None:
    """Write a kustomize base with all that a server needs, and overlays for GPUs and KServe."""
    # Here, since the help does without the harness and a YAML library.
    from kindaware._deployment.release import Release
    from kindaware.cli._shapes import parse_shapes
    from kindaware.cli.deploy._kubernetes_session import Choices, read_healing, write_deployment
    from kindaware.cli.deploy._needs import Sizes
    from kindaware.cli.deploy._quantities import parse_bytes

    write_deployment(
        repository,
        output,
        Choices(
            image=image,
            name=name,
            namespace=namespace,
            release=Release.parse(triton),
            replicas=replicas,
            max_replicas=max_replicas,
            autoscaler=autoscaler.value,
            pending=pending,
            prometheus=prometheus,
            mig_profile=mig_profile,
            startup_seconds=startup,
            drain_seconds=drain,
            pause_seconds=pause,
            healing=read_healing(heals=heals, hang_seconds=hang_seconds),
        ),
        Sizes(
            num_gpus=gpus,
            num_cores=cpus,
            shm_bytes=parse_bytes("--shm-size", shm_size),
            memory_bytes=parse_bytes("--memory", memory),
            shapes=parse_shapes(shape or ()),
            text_bytes=text_bytes or 0,
        ),
        timeout=timeout,
        is_forced=is_forced,
        is_json=is_json,
    )
