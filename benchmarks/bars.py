"""The bars: what has to be reached, and whether it was. Data, and one comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kindaware.cli.bench._stats import Spread

NEEDED_ROUNDS = 10


@dataclass(frozen=True)
class Bar:
    """A limit on a ratio.

    Attributes:
        subject: the scenario, or the part of the benchmark, that measures the ratio.
        ratio: its name there.
        limit: the median has to be at least this, or at most.
        is_least: which of the two.
    """

    subject: str
    ratio: str
    limit: float
    is_least: bool = True

    def verdict(self, spread: Spread | None) -> str:
        """Say whether it is met: a median of too few rounds settles nothing."""
        if spread is None:
            return "not measured"
        is_met = spread.median >= self.limit if self.is_least else spread.median <= self.limit
        word = "met" if is_met else "missed"
        return word if spread.number >= NEEDED_ROUNDS else f"{word} in only {spread.number} rounds"


RATE_OFFICIAL = "rate: kindaware / official"
RATE_HAND_WRITTEN = "rate: kindaware / hand_written"
RATE_PYTRITON = "rate: kindaware / pytriton"
P50_OFFICIAL = "p50: kindaware / official"
P50_HAND_WRITTEN = "p50: kindaware / hand_written"
OVERHEAD = "execute / unavoidable calls, 32 requests"
IMPORT = "import kindaware / import torch"
FIRST_ITEM = "first item / step"
DIVIDED = "rate: auto / one batch"
MEMORY_OF_FOUR = "memory: 4 instances / 1, load_weights"
MEMORY_OF_FOUR_BF16 = "memory: 4 instances / 1, load_weights, bf16-true"
LOAD_WITH_COPY = "load: with the copy / writing it, bf16-true"
FROM_CACHE = "ready: compiled, second start / as it is"
AUTO_THREADS = "rate: auto / the better of one thread and all"


def threads_scenario(network: str, instances: int) -> str:
    """Return the name of a scenario of the part `threads`."""
    return f"threads, {network}, {instances} instance{'s' if instances > 1 else ''}"


def starts_scenario(network: str) -> str:
    """Return the name of a scenario of the part `starts`."""
    return f"starts, {network}"


BARS = (
    Bar("mlp, 1 instance", RATE_OFFICIAL, 1.3),
    Bar("mlp, 2 instances", RATE_OFFICIAL, 1.5),
    Bar("transformer, 1 instance", RATE_OFFICIAL, 3),
    Bar("transformer, 2 instances", RATE_OFFICIAL, 8),
    Bar("resnet50", RATE_OFFICIAL, 2.2),
    Bar("mlp, 1 instance", RATE_HAND_WRITTEN, 0.97),
    Bar("mlp, 2 instances", RATE_HAND_WRITTEN, 0.97),
    Bar("transformer, 1 instance", RATE_HAND_WRITTEN, 0.97),
    Bar("transformer, 2 instances", RATE_HAND_WRITTEN, 0.97),
    Bar("mlp, concurrency 1", P50_HAND_WRITTEN, 1.03, is_least=False),
    Bar("transformer, concurrency 1", P50_HAND_WRITTEN, 1.03, is_least=False),
    Bar("mlp, concurrency 1", P50_OFFICIAL, 1.0, is_least=False),
    Bar("transformer, concurrency 1", P50_OFFICIAL, 1.0, is_least=False),
    Bar("mlp, 1 instance", RATE_PYTRITON, 1.7),
    *(
        Bar(threads_scenario(network, instances), AUTO_THREADS, 0.97)
        for network in ("mlp", "transformer", "efficientnet_lite0", "resnet50")
        for instances in (1, 2)
    ),
    Bar("overhead", OVERHEAD, 1.5, is_least=False),
    Bar("imports", IMPORT, 0.03, is_least=False),
    Bar("gpt, 32 streams", "rate: step / stream", 5),
    Bar("gpt, 32 streams", "rate: step / litserve", 1),
    Bar("wide gpt, 32 streams", "rate: step / bare loop", 0.85),
    Bar("first item, 31 streams", FIRST_ITEM, 3, is_least=False),
    Bar("texts of 8 to 512 tokens", DIVIDED, 1.5),
    Bar("texts of 64 tokens", DIVIDED, 0.97),
    Bar("sharing", MEMORY_OF_FOUR, 1.3, is_least=False),
    Bar("sharing", MEMORY_OF_FOUR_BF16, 1.3, is_least=False),
    Bar("sharing", LOAD_WITH_COPY, 0.3, is_least=False),
    *(
        Bar(starts_scenario(network), FROM_CACHE, 1.3, is_least=False)
        for network in ("mlp", "transformer", "efficientnet_lite0", "resnet50")
    ),
)

FLOOR_SHARE = "(host copy + bare forward, bf16) / kindaware, bf16"
LOOP_GAIN = "per-request loop / kindaware"
PROCESSES_SHARE = "2 processes / bare forward, bf16"
STAGING_IN = "staging in / the larger of host copy and pinned copy"
STAGING_OUT = "staging out / pinned copy"
STAGING_MIB = (8, 16, 32, 64, 128, 256)

GPU_BARS = (
    Bar("resnet50, 32 requests", FLOOR_SHARE, 0.90),
    Bar("resnet50, 32 requests", PROCESSES_SHARE, 0.90),
    Bar("transformer, 32 requests", LOOP_GAIN, 8),
    *(Bar(f"staging, {mib} MiB", STAGING_IN, 1.15, is_least=False) for mib in STAGING_MIB),
    *(Bar(f"staging, {mib} MiB", STAGING_OUT, 1.15, is_least=False) for mib in STAGING_MIB),
)


def ratios_of(parts: dict[str, Any]) -> Iterator[tuple[tuple[str, str], Spread]]:
    """Yield every ratio that was measured, by its subject and name; `parts` are those of a result file."""
    for part, found in parts.items():
        for one in found.get("scenarios", [{"name": part, **found}]):
            for ratio, spread in one.get("ratios", {}).items():
                yield (one["name"], ratio), Spread(**spread)
