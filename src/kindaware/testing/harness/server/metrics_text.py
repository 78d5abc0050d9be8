"""Metrics as the metrics port shows them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from kindaware.testing.stand_in import MetricRegistry
from kindaware.testing.stand_in.host.metrics import Sample


def write_metrics(registry: MetricRegistry) -> str:
    """Write all samples in Prometheus' text format, each family after its description and its kind."""
    lines = []
    for name, samples in itertools.groupby(registry.samples(), lambda sample: sample.name):
        family = list(samples)
        description = family[0].description.replace("\\", "\\\\").replace("\n", "\\n")
        lines += [f"# HELP {name} {description}", f"# TYPE {name} {family[0].kind.lower()}"]
        for sample in family:
            lines += _lines(sample)
    return "".join(f"{line}\n" for line in lines)


def _lines(sample: Sample) -> list[str]:
    labels, name = sample.labels, sample.name
    if sample.kind != "HISTOGRAM":
        return [f"{name}{_labels(labels)} {_number(sample.value)}"]
    bounds = [*map(_number, sample.boundaries), "+Inf"]
    counts = zip(bounds, sample.bucket_counts, strict=True)
    return [
        f"{name}_count{_labels(labels)} {sample.num_observations}",
        f"{name}_sum{_labels(labels)} {_number(sample.value)}",
        *(f"{name}_bucket{_labels({**labels, 'le': bound})} {count}" for bound, count in counts),
    ]


def _number(value: float) -> str:
    return f"{value:.16g}"


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
