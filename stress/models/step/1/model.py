"""So many items as COUNT says, each with its request's key; fails beyond them if COUNT is negative."""

import torch

from kindaware import Done, KindAwareModel, Next, RequestError

MOST = 1_000


class TritonPythonModel(KindAwareModel):
    num_threads = 1
    max_streams = 32

    def load(self):
        """Make nothing."""

    def begin(self, KEY, COUNT):
        if abs(int(COUNT)) > MOST:
            raise RequestError(f"COUNT is above {MOST}")
        return int(KEY), int(COUNT), 0

    def step(self, states):
        return [self.next_of(*state) for state in states]

    def next_of(self, key, count, index):
        if index < abs(count):
            item = {"KEY": torch.tensor([[key]]), "INDEX": torch.tensor([[index]], dtype=torch.int32)}
            return Next((key, count, index + 1), item)
        if count < 0:
            raise ValueError("a poisoned stream, see /srv/poison")
        return Done()
