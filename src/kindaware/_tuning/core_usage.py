"""How much of the cores that a process may run on the others use."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE = (3, 4)
"""Places of `idle` and `iowait` in a line of /proc/stat, after the name. Source: proc(5)."""
_GUESTS = 8
"""From here on the times of guests, which are part of `user` and `nice`."""


@dataclass(frozen=True, slots=True)
class CoreUsage:
    """The use of the cores that this process may run on, up to a moment.

    Attributes:
        num_cores: how many there are.
        at: the moment, in seconds.
        busy: seconds for which they were busy, all together; a core that the hypervisor gave away counts.
        own: seconds of them that this process had.
    """

    num_cores: int
    at: float
    busy: float
    own: float

    @classmethod
    def now(cls, stat: Path = Path("/proc/stat")) -> CoreUsage:
        """Return the use up to now; where there is no such file, that of this process alone."""
        cores = os.sched_getaffinity(0)
        own, at = time.process_time(), time.monotonic()
        try:
            lines = stat.read_text().splitlines()
        except OSError:
            return cls(len(cores), at, own, own)
        names = {f"cpu{core}" for core in cores}
        busy = sum(_busy_ticks(line) for line in lines if line.partition(" ")[0] in names)
        return cls(len(cores), at, busy / _TICKS, own)

    def free_since(self, before: CoreUsage) -> float:
        """Return the number of cores, on average, that other processes left free since then."""
        others = (self.busy - before.busy) - (self.own - before.own)
        return self.num_cores - max(0.0, others) / (self.at - before.at)


def _busy_ticks(line: str) -> int:
    ticks = [int(text) for text in line.split()[1:]][:_GUESTS]
    return sum(ticks) - sum(ticks[place] for place in _IDLE)
