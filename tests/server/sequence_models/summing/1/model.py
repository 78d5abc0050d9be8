"""Adds up a sequence's numbers. Has no config.pbtxt: each test of a strategy has its own."""

import time

import torch

from kindaware import KindAwareModel, RequestError


class TritonPythonModel(KindAwareModel):
    def load(self):
        self.forwards = 0

    def forward(self, X, requests):
        self.forwards += 1
        totals = []
        for n, one in enumerate(requests):
            total = self.sequence_state.setdefault(one.correlation_id, torch.zeros(1))
            total += X[n] if X.ndim == 2 else X
            totals.append(total)
        if (X == 666).any():
            raise ValueError("the number of the beast")
        if (X == -1).any():
            raise RequestError("no, thanks", rows=(X == -1).flatten())
        time.sleep(float(X.max()) / 10_000)
        requests_in_batch = torch.full_like(X, len(requests))
        kept = torch.full_like(X, len(self._kindaware_instance.sequences._last_used))
        return torch.stack(totals) if X.ndim == 2 else totals[0], requests_in_batch, kept
