"""So many items as COUNT says, each with its request's key; raises beyond them if COUNT is negative.

Items come in groups, with a pause after each.
"""

import asyncio

import torch

from kindaware import KindAwareModel, RequestError

MOST = 1_000
GROUP, PAUSE_SECONDS = 8, 0.3


class TritonPythonModel(KindAwareModel):
    num_threads = 1
    max_streams = 32

    def load(self):
        """Make nothing."""

    async def stream(self, KEY, COUNT):
        count = int(COUNT)
        if abs(count) > MOST:
            raise RequestError(f"COUNT is above {MOST}")
        for index in range(abs(count)):
            await asyncio.sleep(PAUSE_SECONDS if index and index % GROUP == 0 else 0.001)
            yield {"KEY": KEY, "INDEX": torch.full_like(COUNT, index)}
        if count < 0:
            raise ValueError("a poisoned stream, see /srv/poison")
