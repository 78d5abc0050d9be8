"""Ratios of what two candidates reach in the same round, and what they say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kindaware.cli._table import align
from kindaware.cli.bench._candidates import Candidate
from kindaware.cli.bench._level import Level
from kindaware.cli.bench._load import Load
from kindaware.cli.bench._report import write_errors
from kindaware.cli.bench._stats import Spread, median_interval, paired_ratio

A, B = "A", "B"
_MEASURES: Mapping[str, Callable[[Level], float]] = {
    "requests/s": lambda level: level.requests_per_second,
    "p50": lambda level: level.latency_ms.p50 if level.latency_ms else float("nan"),
    "p95": lambda level: level.latency_ms.p95 if level.latency_ms else float("nan"),
}


@dataclass(frozen=True)
class Ratio:
    """What B reaches, in parts of what A does.

    Attributes:
        spread: of the rounds: median and quartiles.
        interval: of the median, at 95 %; None for less than six rounds.
    """

    spread: Spread
    interval: tuple[float, float] | None

    @classmethod
    def of(cls, values: Sequence[float], others: Sequence[float]) -> Ratio:
        """Divide values by those of the same round."""
        ratios = [value / other for value, other in zip(values, others, strict=True)]
        return cls(paired_ratio(values, others), median_interval(ratios))

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves out 1, so that there is a difference."""
        return self.interval is not None and not self.interval[0] <= 1 <= self.interval[1]

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.spread.median:.3f}"
        return f"{self.spread.median:.3f} ({self.interval[0]:.3f} to {self.interval[1]:.3f})"


@dataclass(frozen=True)
class Comparison:
    """The rounds of one load, and what comes out."""

    load: Load
    rounds: Sequence[Mapping[str, Level]]

    def ratios(self) -> dict[str, Ratio]:
        """Return B over A for each measure."""
        return {
            name: Ratio.of([pick(one[B]) for one in self.rounds], [pick(one[A]) for one in self.rounds])
            for name, pick in _MEASURES.items()
        }


def write_comparisons(candidates: Mapping[str, Candidate], found: Sequence[Comparison]) -> str:
    """Return the medians of both, the ratios, and what they say."""
    lines = [f"{name}: {one.text}" for name, one in candidates.items()]
    for one in found:
        num_rounds = len(one.rounds)
        lines += ["", f"{one.load}, {num_rounds} round{'s' * (num_rounds > 1)} in turns"]
        lines += align(list(_rows(one)), left=1)
        lines += [judge(one), *write_errors([level for each in one.rounds for level in each.values()])]
    return "\n".join(lines)


def _rows(one: Comparison) -> Iterator[Sequence[str]]:
    yield "median", *_MEASURES
    for name in (A, B):
        yield (
            name,
            *(
                f"{Spread.of([pick(each[name]) for each in one.rounds]).median:,.2f}"
                for pick in _MEASURES.values()
            ),
        )
    yield "B / A", *(str(ratio) for ratio in one.ratios().values())


def judge(one: Comparison) -> str:
    """Return what the throughput of both says, in a sentence."""
    ratio = one.ratios()["requests/s"]
    if ratio.interval is None:
        return "too few rounds to tell a difference from noise: at least 6 are needed (--rounds 6)"
    lower, upper = ratio.interval
    if not ratio.is_certain:
        interval = f"{lower:.3f} to {upper:.3f}"
        text = f"no difference can be told from noise: the interval of the ratio, {interval}, includes 1"
        return text + _suggest_rounds(one)
    word = "more" if ratio.spread.median > 1 else "fewer"
    return (
        f"B answers {word} requests per second than A: {ratio.spread.median:.3f} times as many "
        f"(95 % interval {lower:.3f} to {upper:.3f})"
    )


def _suggest_rounds(one: Comparison) -> str:
    """Return what to do where the rounds are so few that the interval reaches from the least to the most."""
    pick = _MEASURES["requests/s"]
    ratios = [pick(each[B]) / pick(each[A]) for each in one.rounds]
    if one.ratios()["requests/s"].interval != (min(ratios), max(ratios)):
        return ""
    return (
        f"; with {len(one.rounds)} rounds it reaches from the least ratio to the most, "
        f"--rounds {2 * len(one.rounds)} may tell"
    )


def write_json(candidates: Mapping[str, Candidate], found: Sequence[Comparison]) -> str:
    """Return everything that was measured."""

    def plain(one: Comparison) -> dict[str, Any]:
        return {
            **one.rounds[0][A].load_as_dict(),
            "ratios": {
                name: {**asdict(ratio), "certain": ratio.is_certain} for name, ratio in one.ratios().items()
            },
            "rounds": [{name: level.as_dict() for name, level in each.items()} for each in one.rounds],
        }

    named = {name: {"text": one.text, "settings": dict(one.settings)} for name, one in candidates.items()}
    return json.dumps({**named, "loads": [plain(one) for one in found]})
