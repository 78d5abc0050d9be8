"""Gives X, X + 1 and so on, as many as the first number of X says; below 0, an error."""

import asyncio

from kindaware import KindAwareModel, RequestError


class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    async def stream(self, X):
        if X[0, 0] < 0:
            raise RequestError("X is negative", code="UNSUPPORTED")
        for number in range(int(X[0, 0])):
            await asyncio.sleep(0.002)
            yield X + number
