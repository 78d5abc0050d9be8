"""More pods when requests wait: a HorizontalPodAutoscaler, or KEDA's ScaledObject."""

from __future__ import annotations

from typing import Any

from kindaware._deployment.workload import Workload

Tree = dict[str, Any]

METRIC = "nv_inference_pending_request_count"
"""Requests that wait in a server, by model. A gauge, so its mean over a minute is what counts."""

ADAPTER_RULE = {
    "seriesQuery": f'{METRIC}{{namespace!="",pod!=""}}',
    "resources": {"overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}},
    "name": {"as": METRIC},
    "metricsQuery": "sum(avg_over_time(<<.Series>>{<<.LabelMatchers>>}[1m])) by (<<.GroupBy>>)",
}
"""How prometheus-adapter makes the metric of a pod from those of its models."""

BEHAVIOR = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 60}],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 300,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
    },
}
"""Up at once, at most twice as many a minute; down after five minutes, one by one."""


def make_autoscaler(workload: Workload) -> Tree:
    """Return the HorizontalPodAutoscaler, which needs prometheus-adapter with `ADAPTER_RULE`."""
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": workload.name, "labels": workload.labels},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload.name},
            "minReplicas": workload.min_replicas,
            "maxReplicas": workload.max_replicas,
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": METRIC},
                        "target": {"type": "AverageValue", "averageValue": str(workload.pending_requests)},
                    },
                }
            ],
            "behavior": BEHAVIOR,
        },
    }


def make_scaled_object(workload: Workload, prometheus: str) -> Tree:
    """Return KEDA's object; it asks Prometheus itself, at this address."""
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": workload.name, "labels": workload.labels},
        "spec": {
            "scaleTargetRef": {"name": workload.name},
            "minReplicaCount": workload.min_replicas,
            "maxReplicaCount": workload.max_replicas,
            "pollingInterval": 15,
            "triggers": [
                {
                    "type": "prometheus",
                    "metricType": "AverageValue",
                    "metadata": {
                        "serverAddress": prometheus,
                        "query": make_query(workload, f'service="{workload.name}"'),
                        "threshold": str(workload.pending_requests),
                    },
                }
            ],
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": BEHAVIOR}},
        },
    }


def make_query(workload: Workload, matcher: str) -> str:
    """Return the query for the requests that wait in all pods together."""
    namespace = f',namespace="{workload.namespace}"' if workload.namespace else ""
    return f"sum(avg_over_time({METRIC}{{{matcher}{namespace}}}[1m]))"
