"""Answers a request when it has come as often as it says."""

import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def forward(self, X, requests):
        counts = torch.zeros_like(X)
        for n, one in enumerate(requests):
            counts[n] = self.sequence_state.get(one.correlation_id, 0) + 1
            self.sequence_state[one.correlation_id] = counts[n]
            if counts[n] < X[n]:
                self.reschedule(one)
            if X[n] == 3.5 and counts[n] == 3:
                raise ValueError("half a time")
        kept = torch.full_like(X, len(self._kindaware_instance.sequences._last_used))
        return counts, torch.full_like(X, len(requests)), kept
