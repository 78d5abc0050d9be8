"""Coordinate search: one setting after the other; the best value is kept, until nothing gets better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kindaware.cli.bench.tune._accuracy import Accuracy
from kindaware.cli.bench.tune._axes import DEFAULTS, Axis

LEAST_GAIN = 1.03
"""What gains less is taken for noise during the search; the winner is compared with care in the end."""


@dataclass(frozen=True)
class Trial:
    """Settings, and what they have reached.

    Attributes:
        settings: changes to the configuration; none for the model as it is.
        requests_per_second: at the load that was best within the limit; at any load if none was.
        p95_ms: there.
        concurrency: there.
        accuracy: of the outputs, against FP32.
        is_within_limit: whether p95 is.
        problem: why it is out of the question; empty if it isn't.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    requests_per_second: float = 0.0
    p95_ms: float = 0.0
    concurrency: int = 0
    accuracy: Accuracy | None = None
    is_within_limit: bool = True
    problem: str = ""

    def beats(self, other: Trial, least_gain: float = LEAST_GAIN) -> bool:
        """Return whether this is the better one: without a problem, within the limit, faster."""
        if self.problem or other.problem:
            return not self.problem
        if self.is_within_limit != other.is_within_limit:
            return self.is_within_limit
        if not self.is_within_limit:
            return self.p95_ms * least_gain < other.p95_ms
        return self.requests_per_second > other.requests_per_second * least_gain


def search(
    axes: Sequence[Axis],
    measure: Callable[[Mapping[str, str]], Trial],
    *,
    current: Mapping[str, str],
    makes_sense: Callable[[Mapping[str, str]], bool],
    has_time: Callable[[], bool],
    trials: list[Trial],
) -> Trial:
    """Return the best trial that was found in time.

    Args:
        axes: what to try, in this order; again from the first after a round that has found something.
        measure: tries settings.
        current: the values that the configuration has.
        makes_sense: whether settings are worth a trial.
        has_time: whether there is time for another trial.
        trials: all of them, in order; filled while the search goes on, for a caller who may be interrupted.
    """
    best = measure({})
    trials.append(best)
    tried = {_key(current, {})}
    improved = True
    while improved:
        improved = False
        for axis in axes:
            start = best
            for value in axis.values:
                settings = {**start.settings, axis.key: value}
                key = _key(current, settings)
                if key in tried or not makes_sense({**current, **settings}):
                    continue
                if not has_time():
                    return best
                tried.add(key)
                trials.append(measure(settings))
                if trials[-1].beats(best):
                    best, improved = trials[-1], True
    return best


def _key(current: Mapping[str, str], settings: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """Return what makes two configurations the same: settings that have their defaults make no difference."""
    return frozenset(
        (key, value) for key, value in {**current, **settings}.items() if DEFAULTS.get(key) != value
    )
