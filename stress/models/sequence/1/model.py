"""The sum of a sequence's values, and the number of its requests; raises for a value that is negative."""

import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    num_threads = 1

    def load(self):
        """Make nothing."""

    def forward(self, KEY, VALUE, requests):
        if (VALUE < 0).any():
            raise ValueError("a poisoned row, see /srv/poison")
        totals, numbers, row = [], [], 0
        for request in requests:
            total, number = self.sequence_state.get(request.correlation_id, (0, 0))
            total, number = total + int(VALUE[row : row + request.rows].sum()), number + 1
            self.sequence_state[request.correlation_id] = (total, number)
            totals += [[total]] * request.rows
            numbers += [[number]] * request.rows
            row += request.rows
        return {"KEY": KEY, "TOTAL": torch.tensor(totals), "NUMBER": torch.tensor(numbers)}
