"""Gives X, X + 1 and so on, as many as the first number of X says; below 0, an error.

Where the second number is below 0, the error comes after two items.
"""

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
            if number == 2 and X[0, 1] < 0:
                raise RequestError("X is negative behind", code="UNSUPPORTED")
            yield X + number
