"""What a deployment is made from: an image, its models, and what they need."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from kindaware._deployment.release import Release
from kindaware._errors import OptionError

MIB = 2**20
PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
_MARGIN_SECONDS = 15
"""Between the end of the drain and the kill: the stubs unload their models."""


@dataclass(frozen=True)
class Workload:
    """A server with its models, as every pod runs it.

    Attributes:
        name: of the objects.
        namespace: of the objects; empty leaves it to whoever applies them.
        image: with the server and the models.
        models: their names, all of which must be ready.
        release: of Triton, in the image.
        num_stubs: processes of Python models, one per instance.
        num_gpus: of a pod.
        has_sequences: whether requests of a model belong to sequences, which one server must get.
        num_cores: of a pod.
        shm_bytes: size of /dev/shm.
        memory_bytes: of a pod, /dev/shm included.
        startup_seconds: how long the models may take to load.
        drain_seconds: how long requests may go on after SIGTERM.
        pause_seconds: between the decision to end a pod and its SIGTERM, while others still send to it.
        min_replicas: pods at least.
        max_replicas: pods at most.
        pending_requests: waiting requests per pod, above which there should be more pods.
    """

    name: str
    namespace: str
    image: str
    models: tuple[str, ...]
    release: Release
    num_stubs: int
    num_gpus: int
    has_sequences: bool
    num_cores: int
    shm_bytes: int
    memory_bytes: int
    startup_seconds: int
    drain_seconds: int
    pause_seconds: int
    min_replicas: int
    max_replicas: int
    pending_requests: int

    def __post_init__(self) -> None:
        """Refuse names that Kubernetes refuses, and bounds that contradict each other."""
        for option, name in (("--name", self.name), ("--namespace", self.namespace or "default")):
            if not re.fullmatch(r"[a-z]([-a-z0-9]{0,51}[a-z0-9])?", name):
                raise OptionError.of(
                    option,
                    expected="at most 53 lower-case letters, digits and hyphens that begin with a letter",
                    got=repr(name),
                    remedy=f"pass another {option}",
                )
        if self.max_replicas < self.min_replicas:
            raise OptionError.of(
                "--max-replicas",
                expected=f"{self.min_replicas} or more, as --replicas says",
                got=str(self.max_replicas),
                remedy="raise it, or lower --replicas",
            )

    @property
    def labels(self) -> dict[str, str]:
        """What its pods are selected by."""
        return {"app.kubernetes.io/name": self.name, "app.kubernetes.io/component": "inference-server"}

    @property
    def grace_seconds(self) -> int:
        """From the decision to end a pod to its kill."""
        return self.pause_seconds + self.drain_seconds + _MARGIN_SECONDS


def write_bytes(num_bytes: int) -> str:
    """Return a number of bytes as a quantity of Kubernetes, rounded up to whole MiB."""
    mebibytes = math.ceil(num_bytes / MIB)
    return f"{mebibytes // 1024}Gi" if mebibytes % 1024 == 0 else f"{mebibytes}Mi"
