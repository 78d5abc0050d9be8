"""Streams what another model streams, and what a third makes of each item."""

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    warmup = "off"

    def load(self):
        return None

    async def stream(self, X, HOW):
        async for one in self.call_stream("count", X=X):
            yield (await self.call_async("echo", X=one["Y"]))["Y"]
