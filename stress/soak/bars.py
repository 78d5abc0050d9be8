"""What a run must show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from stress.soak.faults import VICTIM
from stress.soak.processes import Sample
from stress.soak.run import DRAIN_SECONDS, Run
from stress.soak.tally import BAD, MEANINGS, RIGHT

GROWTH_SHARE, GROWTH_BYTES = 0.02, 8 * 2**20
"""How much memory a process may gain in the last half: what of it grows with each request would be more."""

MOST_FDS = 8
"""How many file descriptors a process may gain in the last half: those of connections that come and go."""

_ENDS = (0, 1, -9)
"""By itself, or killed since 2.51 never gives back models that have died, or requests that were cancelled."""

_ENDING_SECONDS = 15.0
"""What the end may take beyond the drain."""

QUICK_SHARE = 0.05
"""The share in a run of a few minutes, which begins before the allocator has settled."""


@dataclass(frozen=True)
class Bar:
    """One thing that must be so.

    Attributes:
        what: in words.
        found: the figure.
        is_met: whether it is so.
    """

    what: str
    found: str
    is_met: bool


def bars_of(run: Run, *, is_quick: bool) -> list[Bar]:
    """Return all bars of a run."""
    bars = [
        Bar(f"0 requests {MEANINGS[one]}", f"{run.tally.total(one)}", run.tally.total(one) == 0)
        for one in BAD
    ]
    bars.append(Bar("requests answered", f"{run.tally.total(RIGHT):,}", run.tally.total(RIGHT) > 0))
    ended = f"status {run.returncode}, after {run.stop_seconds:.0f} s"
    limit = DRAIN_SECONDS + _ENDING_SECONDS
    bars.append(
        Bar(
            f"the server lived until it was drained, and ended within {limit:.0f} s",
            ended,
            run.returncode in _ENDS and run.stop_seconds < limit,
        )
    )
    bars.append(Bar("no problem of the run", "; ".join(run.problems) or "none", not run.problems))
    share = QUICK_SHARE if is_quick else GROWTH_SHARE
    return bars + [_flat(name, samples, share) for name, samples in lasting(run).items()]


def lasting(run: Run) -> dict[str, list[Sample]]:
    """Return the samples of the last half, of the processes that were there all the time."""
    late: dict[str, list[Sample]] = defaultdict(list)
    for one in run.samples:
        if one.second >= run.seconds / 2 and one.name != VICTIM:
            late[one.name].append(one)
    return dict(sorted(late.items()))


def _flat(name: str, samples: Sequence[Sample], share: float) -> Bar:
    """Compare the third quarter of the run with the last one, by their medians."""
    middle = len(samples) // 2
    before, after = samples[:middle], samples[middle:]
    memory = [median(one.memory_bytes for one in part) for part in (before, after)]
    fds = [median(one.num_fds for one in part) for part in (before, after)]
    grown = memory[1] - memory[0]
    is_flat = grown <= share * memory[0] + GROWTH_BYTES and fds[1] - fds[0] <= MOST_FDS
    is_one = len({one.pid for one in samples}) == 1
    found = (
        f"{memory[0] / 2**20:.0f} to {memory[1] / 2**20:.0f} MiB, {fds[0]:.0f} to {fds[1]:.0f} descriptors"
    )
    return Bar(
        f"{name}: memory and file descriptors flat from the third to the last quarter",
        found if is_one else f"{found}, in several processes",
        is_flat and is_one,
    )
