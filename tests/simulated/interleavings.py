"""How far the devices run ahead of the host, chosen by hypothesis; and how many such runs there were."""

import contextlib
import itertools

from hypothesis import strategies as st

CHOICES = st.lists(st.integers(0, 4), min_size=3, max_size=40)
"""What the device does at each step; see `Drawn`."""


class Drawn:
    """A schedule made of numbers, over and over: 0 goes back to the host, n does a piece of a busy stream."""

    def __init__(self, choices):
        self._choices = itertools.cycle(choices)
        self.trace = []

    def advance(self, busy):
        choice = next(self._choices)
        chosen = busy[(choice - 1) % len(busy)] if choice else None
        self.trace.append(choice and busy.index(chosen) + 1)
        return chosen


class Tally:
    """Counts the runs with a drawn schedule, and those that differ: in test, requests or order of work.

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
    def run(self, harness, test, case, choices):
        """Let the harness's devices follow the choices; `case` is a list of batches."""
        timeline = harness.accelerator.timeline
        before = timeline.schedule, timeline.num_done, timeline.num_early
        timeline.schedule = drawn = Drawn(choices)
        try:
            yield
        finally:
            timeline.schedule = before[0]
        self.num_runs += 1
        self.num_batches += len(case)
        self.num_done += timeline.num_done - before[1]
        self.num_early += timeline.num_early - before[2]
        self._distinct.add(hash((test, repr(case), tuple(drawn.trace))))

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
