"""Runs in which hypothesis chooses how far the devices are ahead of the host; and how many there were."""

import contextlib

from kindaware.testing.accelerator import Drawn


class Traced:
    """A schedule that remembers what another one has chosen."""

    def __init__(self, schedule):
        self._schedule = schedule
        self.trace = []

    def advance(self, busy):
        chosen = self._schedule.advance(busy)
        self.trace.append(None if chosen is None else busy.index(chosen))
        return chosen


class Tally:
    """Counters the runs with a drawn schedule, and those that differ: in test, requests or order of work.

    Attributes:
        num_runs: all of them.
        num_batches: calls of `execute` in them.
        num_done: pieces of work that devices did.
        num_early: those that were done before the host waited for them.
    """

    def __init__(self):
        self.num_runs = self.num_batches = self.num_done = self.num_early = 0
        self._distinct = set()

    @contextlib.contextmanager
    def run(self, harness, test, case, data):
        """Let hypothesis's data choose for the harness's devices; `case` is a list of batches."""
        timeline = harness.accelerator.timeline
        before = timeline.schedule, timeline.num_done, timeline.num_early
        timeline.schedule = traced = Traced(Drawn(data))
        try:
            yield
        finally:
            timeline.schedule = before[0]
        self.num_runs += 1
        self.num_batches += len(case)
        self.num_done += timeline.num_done - before[1]
        self.num_early += timeline.num_early - before[2]
        self._distinct.add(hash((test, repr(case), tuple(traced.trace))))

    def __str__(self):
        return (
            f"interleavings: {self.num_runs} runs of {self.num_batches} batches, {len(self._distinct)} runs "
            f"differ; {self.num_done} pieces of work, {self.num_early} done before the host waited"
        )


TALLY = Tally()


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
