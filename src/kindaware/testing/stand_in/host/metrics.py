"""The metrics of one simulated server, shared by all its models, as its metrics port would show them."""

from __future__ import annotations

import bisect
import itertools
import re
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kindaware.testing.stand_in.host.errors import RefusalError

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One value as the metrics port shows it.

    Attributes:
        name: the family's.
        kind: COUNTER, GAUGE or HISTOGRAM.
        labels: by name.
        value: of a histogram: the sum of all observations.
        num_observations: of a histogram.
        bucket_counts: of a histogram: observations up to each boundary, and up to infinity.
        boundaries: of a histogram.
        description: the family's.
    """

    name: str
    kind: str
    labels: dict[str, str]
    value: float
    num_observations: int = 0
    bucket_counts: tuple[int, ...] = ()
    boundaries: tuple[float, ...] = ()
    description: str = ""


@dataclass(eq=False)
class Value:
    """The value that all Metric objects of a family with equal labels share."""

    labels: Labels
    buckets: tuple[float, ...] = ()
    number: float = 0.0
    counts: list[int] = field(default_factory=list)

    def observe(self, number: float) -> None:
        """Add an observation to a histogram."""
        self.counts = self.counts or [0] * (len(self.buckets) + 1)
        self.counts[bisect.bisect_left(self.buckets, number)] += 1
        self.number += number


@dataclass(eq=False)
class Family:
    """A metric family of the server; it stays, its values go with the last MetricFamily object."""

    name: str
    description: str
    kind: str
    values: weakref.WeakValueDictionary[Labels, Value] = field(default_factory=weakref.WeakValueDictionary)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def find_value(self, labels: dict[Any, Any], buckets: Sequence[float]) -> Value:
        """Return the value of these labels, a new one if there is none.

        Raises:
            RefusalError: bad labels or buckets.
        """
        if not all(isinstance(text, str) for text in labels.values()):
            raise RefusalError("attempt to access JSON non-string as string")
        if not all(_is_name(str(name)) for name in labels):
            raise RefusalError("Invalid label name")
        if any(left >= right for left, right in itertools.pairwise(buckets)):
            raise RefusalError("Bucket Boundaries must be strictly sorted")
        key = tuple(sorted((str(name), text) for name, text in labels.items()))
        with self.lock:
            value = self.values.get(key)
            if value is None:
                value = self.values[key] = Value(key, tuple(buckets))
            return value


def _is_name(name: str) -> bool:
    return not name.startswith("__") and re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) is not None


class MetricRegistry:
    """All metric families of a server."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}
        self._lock = threading.Lock()

    def find_family(self, name: str, description: str, kind: str) -> Family:
        """Return the family of this name, a new one if there is none.

        Raises:
            RefusalError: it is of another kind, or has no such name.
        """
        if not _is_name(name.replace(":", "_")):
            raise RefusalError("Invalid metric name")
        with self._lock:
            family = self._families.get(name)
            if family is None:
                family = self._families[name] = Family(name, description, kind)
            elif family.kind != kind:
                raise RefusalError("Family name already exists with different type")
            return family

    def samples(self) -> list[Sample]:
        """Return all values that exist now, by name and labels."""
        found = [(family, value) for family in self._families.values() for value in family.values.values()]
        found.sort(key=lambda pair: (pair[0].name, pair[1].labels))
        return [_sample(family, value) for family, value in found]


def _sample(family: Family, value: Value) -> Sample:
    sample = Sample(
        family.name, family.kind, dict(value.labels), value.number, description=family.description
    )
    if family.kind != "HISTOGRAM":
        return sample
    counts = value.counts or [0] * (len(value.buckets) + 1)
    totals = tuple(sum(counts[: end + 1]) for end in range(len(counts)))
    return replace(sample, num_observations=totals[-1], bucket_counts=totals, boundaries=value.buckets)
