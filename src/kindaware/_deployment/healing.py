"""A component of kustomize: `kindaware watch` beside the server, which loads dead models again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kindaware._deployment.pod import (
    ADMIN_HEADER,
    CONTAINER,
    SECURITY,
    TMP,
    Tree,
    make_arguments,
    make_environment,
    patch_pod,
)
from kindaware._deployment.workload import MIB, PORTS, Workload, write_bytes

FOLDER = "components/heal"
HEALTH_PORT = 8003
_BEATS, _BEATS_FOLDER = "beats", "/beats"
_RESOURCES = {"cpu": "250m", "memory": write_bytes(128 * MIB)}


@dataclass(frozen=True)
class Healing:
    """How the models of a pod are watched.

    Attributes:
        hang_seconds: how long a call of a model's code may take, or None.
    """

    hang_seconds: float | None = None


def make_component(workload: Workload, healing: Healing) -> dict[str, Any]:
    """Return the files of the component: what it changes in the base."""
    return {
        "kustomization.yaml": {
            "apiVersion": "kustomize.config.k8s.io/v1alpha1",
            "kind": "Component",
            "patches": [
                {"path": "deployment.yaml"},
                {"path": "service-monitor.yaml", "target": {"kind": "ServiceMonitor"}},
            ],
        },
        "deployment.yaml": _patch_deployment(workload, healing),
        "service-monitor.yaml": _patch_monitor(),
    }


def _patch_deployment(workload: Workload, healing: Healing) -> Tree:
    server: Tree = {
        "name": CONTAINER,
        "args": [*make_arguments(workload), "--model-control-mode=explicit", "--load-model=*"],
        **_make_probes(),
    }
    watch = _make_sidecar(workload, healing)
    pod: Tree = {"shareProcessNamespace": True, "containers": [server, watch]}
    if healing.hang_seconds is not None:
        server["env"] = [{"name": "KINDAWARE_BEATS", "value": _BEATS_FOLDER}]
        mount = {"name": _BEATS, "mountPath": _BEATS_FOLDER}
        server["volumeMounts"] = [mount]
        watch["volumeMounts"].append(mount)
        pod["volumes"] = [{"name": _BEATS, "emptyDir": {"medium": "Memory", "sizeLimit": write_bytes(MIB)}}]
    return patch_pod(workload, pod)


def _make_sidecar(workload: Workload, healing: Healing) -> Tree:
    """Return the container; it ends at once with the pod, so that it heals no model of a server that ends."""
    arguments = [
        "watch",
        f"localhost:{PORTS['http']}",
        f"--grpc-url=localhost:{PORTS['grpc']}",
        f"--metrics-url=localhost:{PORTS['metrics']}",
        "--host=0.0.0.0",
        f"--port={HEALTH_PORT}",
        f"--header={ADMIN_HEADER}",
    ]
    if healing.hang_seconds is not None:
        arguments.append(f"--hang-seconds={healing.hang_seconds:g}")
    return {
        "name": "watch",
        "image": workload.image,
        "command": ["kindaware"],
        "args": arguments,
        "env": make_environment(),
        "ports": [{"name": "health", "containerPort": HEALTH_PORT}],
        "resources": {"requests": dict(_RESOURCES), "limits": dict(_RESOURCES)},
        "securityContext": SECURITY,
        "volumeMounts": [{"name": TMP, "mountPath": "/tmp"}],
    }


def _make_probes() -> Tree:
    """Return probes of the server that ask the sidecar, which knows of each model; alive is what heals."""
    return {
        "readinessProbe": {
            "$patch": "replace",
            "httpGet": {"path": "/readyz", "port": HEALTH_PORT},
            "periodSeconds": 2,
            "timeoutSeconds": 2,
            "failureThreshold": 1,
        },
        "livenessProbe": {
            "$patch": "replace",
            "httpGet": {"path": "/livez", "port": HEALTH_PORT},
            "periodSeconds": 10,
            "timeoutSeconds": 6,
            "failureThreshold": 3,
        },
    }


def _patch_monitor() -> list[Tree]:
    """Return the patch that has Prometheus scrape deaths and heals; the Service needs no port for that."""
    endpoint = {"targetPort": HEALTH_PORT, "path": "/metrics", "interval": "15s"}
    return [{"op": "add", "path": "/spec/endpoints/-", "value": endpoint}]
