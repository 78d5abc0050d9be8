"""A kustomize base for a cluster, and overlays for GPUs and for KServe."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from kindaware._deployment.autoscaling import ADAPTER_RULE, make_autoscaler, make_scaled_object
from kindaware._deployment.healing import FOLDER, Healing, make_component
from kindaware._deployment.kserve import make_inference_service, make_serving_runtime
from kindaware._deployment.pod import CONTAINER, PROBE_CONFIG_MAP, SHM, Tree, make_pod, patch_pod
from kindaware._deployment.workload import PORTS, Workload

Autoscaler = Literal["hpa", "keda", "none"]
GPU = "nvidia.com/gpu"


def make_files(
    workload: Workload,
    *,
    autoscaler: Autoscaler,
    prometheus: str,
    mig_profile: str,
    healing: Healing | None = None,
) -> dict[str, Any]:
    """Return what belongs into each file: an object, or the text of a file that is copied.

    Args:
        workload: what is deployed.
        autoscaler: `hpa` with prometheus-adapter, `keda`, or `none` for a fixed number of pods.
        prometheus: address of Prometheus in the cluster, for KEDA.
        mig_profile: the part of a GPU that a pod of the overlay gpu-mig gets, such as `1g.10gb`.
        healing: of dead models, by a sidecar; None leaves them to the liveness probe.
    """
    base: dict[str, Tree] = {
        "deployment.yaml": make_deployment(workload, has_autoscaler=autoscaler != "none"),
        "service.yaml": _make_service(workload),
        "service-grpc.yaml": _make_headless_service(workload),
        "pod-disruption-budget.yaml": _make_budget(workload),
        "service-monitor.yaml": _make_monitor(workload),
    }
    if autoscaler == "hpa":
        base["autoscaler.yaml"] = make_autoscaler(workload)
    elif autoscaler == "keda":
        base["autoscaler.yaml"] = make_scaled_object(workload, prometheus)
    namespace = {"namespace": workload.namespace} if workload.namespace else {}
    components = {} if healing is None else {"components": [f"../{FOLDER}"]}
    files: dict[str, Any] = {
        "probe/probe.py": Path(__file__).with_name("probe.py").read_text(),
        "probe/kustomization.yaml": _make_probe(),
        **{f"base/{file}": content for file, content in base.items()},
        "base/kustomization.yaml": _customize(resources=["../probe", *base], **components, **namespace),
        "overlays/kserve/runtime.yaml": make_serving_runtime(workload),
        "overlays/kserve/inference-service.yaml": make_inference_service(workload, prometheus),
        "overlays/kserve/kustomization.yaml": _customize(
            resources=["../../probe", "runtime.yaml", "inference-service.yaml"], **namespace
        ),
    }
    if healing is not None:
        files |= {f"{FOLDER}/{name}": content for name, content in make_component(workload, healing).items()}
    if autoscaler == "hpa":
        files["prometheus-adapter.yaml"] = {"rules": {"custom": [ADAPTER_RULE]}}
    if workload.num_gpus:
        patches = {
            "gpu": _patch_gpu(workload, GPU),
            "gpu-mig": _patch_gpu(workload, f"nvidia.com/mig-{mig_profile}"),
            "gpu-mps": _patch_mps(workload),
        }
        for name, patch in patches.items():
            files[f"overlays/{name}/deployment.yaml"] = patch
            files[f"overlays/{name}/kustomization.yaml"] = _customize(
                resources=["../../base"], patches=[{"path": "deployment.yaml"}]
            )
    return files


def make_deployment(workload: Workload, *, has_autoscaler: bool) -> Tree:
    """Return the Deployment; with an autoscaler it has no number of replicas, which an update would reset."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": workload.name, "labels": workload.labels},
        "spec": {
            **({} if has_autoscaler else {"replicas": workload.min_replicas}),
            "selector": {"matchLabels": workload.labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "progressDeadlineSeconds": workload.startup_seconds + 300,
            "template": {"metadata": {"labels": workload.labels}, "spec": make_pod(workload)},
        },
    }


def _make_service(workload: Workload) -> Tree:
    """Return the Service for HTTP and metrics; its connections are short, or a proxy's.

    Sequences stay with a pod by the client's address, which a proxy in between would hide.
    """
    affinity = {"sessionAffinity": "ClientIP"} if workload.has_sequences else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": workload.name, "labels": {**workload.labels, "kindaware/scraped": "yes"}},
        "spec": {
            **affinity,
            "selector": workload.labels,
            "ports": [
                {"name": name, "port": port, "targetPort": name, "appProtocol": "http"}
                for name, port in PORTS.items()
                if name != "grpc"
            ],
        },
    }


def _make_headless_service(workload: Workload) -> Tree:
    """Return the Service for gRPC: its name resolves to every pod, between which clients balance."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{workload.name}-grpc", "labels": workload.labels},
        "spec": {
            "clusterIP": "None",
            "selector": workload.labels,
            "ports": [
                {
                    "name": "grpc",
                    "port": PORTS["grpc"],
                    "targetPort": "grpc",
                    "appProtocol": "kubernetes.io/h2c",
                }
            ],
        },
    }


def _make_budget(workload: Workload) -> Tree:
    """Return the budget for voluntary disruptions: one pod at a time, and broken ones always."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": workload.name, "labels": workload.labels},
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": workload.labels},
        },
    }


def _make_monitor(workload: Workload) -> Tree:
    """Return what the Prometheus operator scrapes."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": workload.name, "labels": workload.labels},
        "spec": {
            "selector": {"matchLabels": {**workload.labels, "kindaware/scraped": "yes"}},
            "endpoints": [{"port": "metrics", "path": "/metrics", "interval": "15s"}],
        },
    }


def _make_probe() -> Tree:
    return _customize(
        configMapGenerator=[{"name": PROBE_CONFIG_MAP, "files": ["probe.py"]}],
        # KServe's objects refer to it too, and kustomize doesn't know where.
        generatorOptions={"disableNameSuffixHash": True},
    )


def _patch_gpu(workload: Workload, resource: str) -> Tree:
    number = str(workload.num_gpus)
    container = {"name": CONTAINER, "resources": {"limits": {resource: number}}}
    return patch_pod(
        workload,
        {
            "tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}],
            "containers": [container],
        },
    )


def _patch_mps(workload: Workload) -> Tree:
    """Return the patch for a share of a GPU; the device plugin then mounts a /dev/shm of its own.

    Source: NVIDIA/k8s-device-plugin, `internal/plugin/mps.go`.
    """
    patch = _patch_gpu(workload, GPU)
    pod = patch["spec"]["template"]["spec"]
    pod["containers"][0]["volumeMounts"] = [{"mountPath": "/dev/shm", "$patch": "delete"}]
    pod["volumes"] = [{"name": SHM, "$patch": "delete"}]
    return patch


def _customize(**fields: Any) -> Tree:
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **fields}
