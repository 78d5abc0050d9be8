"""So many items as COUNT says, each with its request's key; fails beyond them if COUNT is negative.

Items come in groups, with a pause after each.
"""

import time

import torch

from kindaware import Done, KindAwareModel, Next, RequestError

MOST = 1_000
GROUP, PAUSE_SECONDS = 8, 0.3


class TritonPythonModel(KindAwareModel):
    num_threads = 1
    max_streams = 32

    def load(self):
        """Make nothing."""

    def begin(self, KEY, COUNT):
        if abs(int(COUNT)) > MOST:
            raise RequestError(f"COUNT is above {MOST}")
        return int(KEY), int(COUNT), 0, 0.0

    def step(self, states):
        now = time.monotonic()
        if all(now < resumes_at for *_, resumes_at in states):
            time.sleep(0.001)
        return [self.next_of(*state, now) for state in states]

    def next_of(self, key, count, index, resumes_at, now):
        if now < resumes_at:
            return None
        if index < abs(count):
            resumes_at = now + PAUSE_SECONDS if (index + 1) % GROUP == 0 else 0.0
            item = {"KEY": torch.tensor([[key]]), "INDEX": torch.tensor([[index]], dtype=torch.int32)}
            return Next((key, count, index + 1, resumes_at), item)
        if count < 0:
            raise ValueError("a poisoned stream, see /srv/poison")
        return Done()
