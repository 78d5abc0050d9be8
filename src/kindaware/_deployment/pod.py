"""The pod: one container with the server, its limits, its probes, and the memory that it writes to."""

from __future__ import annotations

from typing import Any

from kindaware._deployment.workload import MIB, PORTS, Workload, write_bytes

Tree = dict[str, Any]

CONTAINER = "triton"
PROBE_CONFIG_MAP = "triton-probe"
PROBE_FOLDER = "/etc/kindaware"
SHM, TMP, PROBE = "shm", "tmp", "probe"
"""Names of the volumes."""

USER = 1000
"""`triton-server` in NVIDIA's images."""

_TMP_BYTES = 1024 * MIB
RESTRICTED = "shared-memory,model-repository,trace,logging"
ADMIN_HEADER = "kindaware-admin=$(POD_UID)"
"""What requests to the restricted APIs must bring: the pod's own id, which no client knows."""

SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def make_container(workload: Workload) -> Tree:
    """Return the container with the server."""
    resources = {"cpu": str(workload.num_cores), "memory": write_bytes(workload.memory_bytes)}
    return {
        "name": CONTAINER,
        "image": workload.image,
        "command": ["tritonserver"],
        "args": make_arguments(workload),
        "env": make_environment(),
        "ports": [{"name": name, "containerPort": port} for name, port in PORTS.items()],
        # Equal, so that the pod is among the last to be evicted; kindaware divides the limit among instances.
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        **make_probes(workload),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(workload.pause_seconds)]}}},
        "securityContext": SECURITY,
        "volumeMounts": [
            {"name": SHM, "mountPath": "/dev/shm"},
            {"name": TMP, "mountPath": "/tmp"},
            {"name": PROBE, "mountPath": PROBE_FOLDER, "readOnly": True},
        ],
    }


def make_arguments(workload: Workload) -> list[str]:
    """Return the arguments of the server; what can harm other clients needs a header."""
    return [
        "--model-repository=/models",
        f"--exit-timeout-secs={workload.drain_seconds}",
        f"--http-restricted-api={RESTRICTED}:{ADMIN_HEADER}",
        f"--grpc-restricted-protocol={RESTRICTED}:{ADMIN_HEADER}",
    ]


def make_environment() -> list[Tree]:
    """Return what else the processes must know: whose pod it is, and where they may write."""
    return [
        {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": "HOME", "value": "/tmp"},
        # torch.compile asks for a user's name, and one without an entry in passwd has none.
        {"name": "USER", "value": "triton-server"},
        {"name": "KINDAWARE_CACHE", "value": "/tmp/kindaware"},
        {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
    ]


def make_probes(workload: Workload) -> Tree:
    """Return the probes that fit the server's release.

    Before 26.01 a model whose process has died stays ready, and from then on nothing starts it again. So
    liveness counts the processes whatever the release, and readiness does where the server can't.
    """
    program = ["python3", "-I", "-S", f"{PROBE_FOLDER}/probe.py"]
    stubs = [f"--stubs={workload.num_stubs}"]
    asked: Tree = {"httpGet": {"path": "/v2/health/ready", "port": "http"}}
    if not workload.release.asks_models:
        asked = {"exec": {"command": [*program, "ready", *stubs, *workload.models]}}
    period = 5
    return {
        "startupProbe": {
            "httpGet": {"path": "/v2/health/ready", "port": "http"},
            "periodSeconds": period,
            "timeoutSeconds": 6,  # a model's own is_ready has 5
            "failureThreshold": -(-workload.startup_seconds // period),
        },
        "readinessProbe": {**asked, "periodSeconds": period, "timeoutSeconds": 6, "failureThreshold": 2},
        "livenessProbe": {
            "exec": {"command": [*program, "live", *stubs]},
            "periodSeconds": 10,
            "timeoutSeconds": 6,
            "failureThreshold": 3,
        },
    }


def make_volumes(workload: Workload) -> list[Tree]:
    """Return what the container's mounts refer to."""
    return [
        {"name": SHM, "emptyDir": {"medium": "Memory", "sizeLimit": write_bytes(workload.shm_bytes)}},
        {"name": TMP, "emptyDir": {"sizeLimit": write_bytes(_TMP_BYTES)}},
        {"name": PROBE, "configMap": {"name": PROBE_CONFIG_MAP}},
    ]


def make_pod_settings(workload: Workload) -> Tree:
    """Return what concerns the pod as a whole."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": workload.grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def patch_pod(workload: Workload, pod: Tree) -> Tree:
    """Return a patch of the Deployment that changes this in the specification of its pod."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": workload.name},
        "spec": {"template": {"spec": pod}},
    }


def make_pod(workload: Workload) -> Tree:
    """Return the specification of the pod."""
    return {
        **make_pod_settings(workload),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": workload.labels},
                "matchLabelKeys": ["pod-template-hash"],
            }
        ],
        "containers": [make_container(workload)],
        "volumes": make_volumes(workload),
    }
