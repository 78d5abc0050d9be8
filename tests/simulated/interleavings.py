"""Runs in which hypothesis chooses how far the devices are ahead of the host; and how many there were."""

import contextlib

from kindaware.testing.accelerator import Drawn
from tally import TALLY


class Traced:
    """A schedule that remembers what another one has chosen."""

    def __init__(self, schedule):
        self._schedule = schedule
        self.trace = []

    def advance(self, busy):
        chosen = self._schedule.advance(busy)
        self.trace.append(None if chosen is None else busy.index(chosen))
        return chosen


@contextlib.contextmanager
def drawn(harness, test, case, data):
    """Let hypothesis's data choose for the harness's devices, and count it; `case` is a list of batches."""
    timeline = harness.accelerator.timeline
    before = timeline.schedule, timeline.num_done, timeline.num_early
    timeline.schedule = traced = Traced(Drawn(data))
    try:
        yield
    finally:
        timeline.schedule = before[0]
    run = hash((test, repr(case), tuple(traced.trace)))
    done, early = timeline.num_done - before[1], timeline.num_early - before[2]
    TALLY.count(run, batches=len(case), done=done, early=early)


class Kept:
    """A harness for many examples; after one that failed, the next gets a new one."""

    def __init__(self, open_harness):
        self._open = open_harness
        self._harness = None

    @contextlib.contextmanager
    def use(self):
        if self._harness is None:
            self._harness = self._open().start()
        try:
            yield self._harness
        except BaseException:
            self.close()
            raise

    def close(self):
        harness, self._harness = self._harness, None
        if harness is not None:
            harness.stop(check=False)
