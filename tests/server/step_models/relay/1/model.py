"""Passes on what `stepper` streams."""

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    warmup = "off"

    def load(self):
        return None

    async def stream(self, KEY, N, HOW):
        async for one in self.call_stream("stepper", KEY=KEY, N=N, HOW=HOW):
            yield one
