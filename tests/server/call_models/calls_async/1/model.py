"""Calls other models, several at once."""

import asyncio

import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    warmup = "off"

    def load(self):
        return None

    async def forward(self, X, HOW):
        assert torch.is_inference_mode_enabled()
        returned = await getattr(self, "_" + HOW[0, 0].decode())(X)
        assert torch.is_inference_mode_enabled()
        return returned

    async def _plain(self, X):
        answers = await asyncio.gather(*[self.call_async("echo", X=X + n) for n in range(16)])
        return sum(answer["Y"] - n for n, answer in enumerate(answers)) / 16

    async def _together(self, X):
        answers = await asyncio.gather(*[self.call_async("together", X=X) for _ in range(8)])
        return torch.stack([answer["Y"] for answer in answers]).amax(dim=0)

    async def _refused(self, X):
        return (await self.call_async("refuses", X=X))["Y"]

    async def _count(self, X):
        streams = [self._all_of(X) for _ in range(4)]
        assert [len(one) for one in await asyncio.gather(*streams)] == [int(X[0, 0])] * 4
        return X

    async def _all_of(self, X):
        return [one["Y"] async for one in self.call_stream("count", X=X)]
