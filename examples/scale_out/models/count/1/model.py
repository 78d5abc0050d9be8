import asyncio

import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    async def stream(self, NUM_ITEMS, SECONDS):
        for number in range(int(NUM_ITEMS)):
            await asyncio.sleep(float(SECONDS))
            yield {"ITEM": torch.tensor([number], dtype=torch.int32)}
