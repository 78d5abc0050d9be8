"""Rounds in which candidates take turns, and what is made of them: medians, quartiles, ratios."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

_CONFIDENCE = 0.95

Measured = TypeVar("Measured")


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles.

    Attributes:
        median: of the values.
        lower: first quartile.
        upper: third quartile.
        number: of values.
    """

    median: float
    lower: float
    upper: float
    number: int

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray[Any, Any]) -> Spread:
        """Summarise at least one value."""
        lower, median, upper = np.percentile(values, [25, 50, 75])
        return cls(float(median), float(lower), float(upper), len(values))

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(self.lower)} to {short(self.upper)})"


def short(value: float) -> str:
    """Write a number with three digits, or all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def interleave(
    candidates: Mapping[str, Callable[[], Measured]], num_rounds: int
) -> list[dict[str, Measured]]:
    """Measure all candidates once per round, in the same order in every round: A B C A B C.

    Returns:
        One mapping per round, by the candidates' names.
    """
    return [{name: run() for name, run in candidates.items()} for _ in range(num_rounds)]


def values_of(rounds: Sequence[Mapping[str, Any]], measure: str) -> dict[str, list[float]]:
    """Return the values of one measure, an attribute of what was measured, by candidate."""
    return {name: [getattr(one[name], measure) for one in rounds] for name in rounds[0]}


def spreads(values: Mapping[str, Sequence[float]]) -> dict[str, Spread]:
    """Summarise the values of each candidate."""
    return {name: Spread.of(one) for name, one in values.items()}


def paired_ratio(values: Sequence[float], others: Sequence[float]) -> Spread:
    """Divide what was measured in the same round, then summarise: noise that lasts longer cancels out."""
    return Spread.of([value / other for value, other in zip(values, others, strict=True)])


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of the median, between two of the values themselves; None for less than six.

    It assumes nothing but rounds that do not influence each other: each is above the median or below it, as
    a coin falls. Source: the sign test, inverted.
    """
    ordered, number = sorted(values), len(values)
    outside, tail = 0, 0.0
    while (tail := tail + math.comb(number, outside) / 2**number) <= (1 - _CONFIDENCE) / 2:
        outside += 1
    return (ordered[outside - 1], ordered[number - outside]) if outside else None
