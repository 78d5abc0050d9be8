"""Metrics as the metrics port shows them."""

from __future__ import annotations

from collections.abc import Mapping

from kindaware.testing.stand_in import MetricRegistry


def write_metrics(registry: MetricRegistry) -> str:
    """Write all samples in Prometheus' text format; without buckets of histograms."""
    lines = []
    for sample in registry.samples():
        if sample.kind == "HISTOGRAM":
            lines.append(f"{sample.name}_count{_labels(sample.labels)} {sample.num_observations}")
            lines.append(f"{sample.name}_sum{_labels(sample.labels)} {sample.value:g}")
        else:
            lines.append(f"{sample.name}{_labels(sample.labels)} {sample.value:g}")
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""
