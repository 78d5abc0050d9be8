"""How many runs on simulated GPUs there were, over all workers."""


class Tally:
    """Counts the runs with a drawn schedule, and those that differ: in test, requests or order of work.

    Attributes:
        num_runs: all of them.
        num_distinct: those that differ.
        num_batches: calls of `execute` in them.
        num_done: pieces of work that devices did.
        num_early: those that were done before the host waited for them.
    """

    NAMES = ("num_runs", "num_distinct", "num_batches", "num_done", "num_early")

    def __init__(self):
        self.num_runs = self.num_distinct = self.num_batches = self.num_done = self.num_early = 0
        self._seen = set()

    def count(self, run, *, batches, done, early):
        """Count one run, which `run` tells from others."""
        is_new = run not in self._seen
        self._seen.add(run)
        self.add(num_runs=1, num_distinct=is_new, num_batches=batches, num_done=done, num_early=early)

    def add(self, **counts):
        """Add the counts of a worker, which runs tests of its own."""
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)

    def counts(self):
        """Plain data for another process."""
        return {name: getattr(self, name) for name in self.NAMES}

    def __str__(self):
        return (
            f"interleavings: {self.num_runs} runs of {self.num_batches} batches, {self.num_distinct} runs "
            f"differ; {self.num_done} pieces of work, {self.num_early} done before the host waited"
        )


TALLY = Tally()
