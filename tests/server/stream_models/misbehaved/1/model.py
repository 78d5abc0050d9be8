"""Does one thing wrong, after one right item; HOW says which."""

import sys

import torch

from kindaware import KindAwareModel, RequestError

RIGHT, NAME, TYPE, ROWS, REFUSES, RAISES, EXITS, AT_ONCE = range(8)


class TritonPythonModel(KindAwareModel):
    def load(self):
        pass

    def preprocess(self, inputs):
        if inputs["HOW"][0, 0] < 0:
            raise RequestError("HOW is negative", code="UNSUPPORTED")
        return inputs

    async def stream(self, HOW):
        how = int(HOW[0, 0])
        if how == AT_ONCE:
            raise RequestError("nothing of that", code="NOT_FOUND")
        yield HOW
        if how == REFUSES:
            raise RequestError("no more of that", code="UNAVAILABLE")
        if how == RAISES:
            raise ValueError("it broke")
        if how == EXITS:
            sys.exit(3)
        wrong = {NAME: {"J": HOW}, TYPE: HOW.long(), ROWS: torch.cat([HOW, HOW])}
        yield wrong.get(how, HOW)
