"""So many items as COUNT says, each with its request's key; raises beyond them if COUNT is negative."""

import asyncio

import torch

from kindaware import KindAwareModel, RequestError

MOST = 1_000


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
            await asyncio.sleep(0.001)
            yield {"KEY": KEY, "INDEX": torch.full_like(COUNT, index)}
        if count < 0:
            raise ValueError("a poisoned stream, see /srv/poison")
