"""The same pod as a ServingRuntime and an InferenceService of KServe, in its standard mode."""

from __future__ import annotations

from kindaware._deployment.autoscaling import make_query
from kindaware._deployment.pod import Tree, make_container, make_pod_settings, make_volumes
from kindaware._deployment.workload import PORTS, Workload

_FORMAT = "kindaware"


def make_serving_runtime(workload: Workload) -> Tree:
    """Return a runtime with the models in its image."""
    container = {**make_container(workload), "name": "kserve-container"}
    if workload.num_gpus:
        container["resources"]["limits"]["nvidia.com/gpu"] = str(workload.num_gpus)
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": workload.name, "labels": workload.labels},
        "spec": {
            "supportedModelFormats": [{"name": _FORMAT, "version": "1", "autoSelect": False}],
            "protocolVersions": ["v2", "grpc-v2"],
            "multiModel": False,
            "annotations": {
                "prometheus.kserve.io/port": str(PORTS["metrics"]),
                "prometheus.kserve.io/path": "/metrics",
            },
            "containers": [container],
            "volumes": make_volumes(workload),
        },
    }


def make_inference_service(workload: Workload, prometheus: str) -> Tree:
    """Return the service; KEDA scales it by the requests that wait."""
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": workload.name,
            "labels": workload.labels,
            "annotations": {
                "serving.kserve.io/deploymentMode": "Standard",
                "serving.kserve.io/autoscalerClass": "keda",
                "serving.kserve.io/enable-prometheus-scraping": "true",
            },
        },
        "spec": {
            "predictor": {
                **make_pod_settings(workload),
                "model": {
                    "modelFormat": {"name": _FORMAT},
                    "runtime": workload.name,
                    "protocolVersion": "v2",
                },
                "minReplicas": workload.min_replicas,
                "maxReplicas": workload.max_replicas,
                "deploymentStrategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
                },
                "autoScaling": {
                    "metrics": [
                        {
                            "type": "External",
                            "external": {
                                "metric": {
                                    "backend": "prometheus",
                                    "serverAddress": prometheus,
                                    "query": make_query(workload, f'pod=~"{workload.name}-predictor-.*"'),
                                },
                                "target": {
                                    "type": "AverageValue",
                                    "averageValue": str(workload.pending_requests),
                                },
                            },
                        }
                    ]
                },
            }
        },
    }
