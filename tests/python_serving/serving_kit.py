"""Models that the tests serve; a module of its own, which a server's process can import."""

import asyncio

import torch

from kindaware import KindAwareModel, TensorSpec


class Importable(KindAwareModel):
    inputs = [TensorSpec("X", "FP32", [2])]
    outputs = [TensorSpec("Y", "FP32", [2])]
    max_batch_size = 8

    def load(self):
        pass

    def forward(self, X):
        return X * 2


class Undeclared(KindAwareModel):
    def load(self):
        pass

    def forward(self, X):
        return {"Y": X + 1}


def shout(text):
    """Take and return lists of text, and a number for each."""
    return [one.upper() for one in text], torch.tensor([float(len(one)) for one in text])


async def later(x):
    await asyncio.sleep(0)
    return x * 3


def count(n):
    for number in range(int(n[0, 0])):
        yield torch.full((1, 1), number)
