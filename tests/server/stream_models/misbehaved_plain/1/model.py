"""Yields an output of another name after one right item, from a plain generator, where HOW is 1."""

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        pass

    def stream(self, HOW):
        yield HOW
        yield {"J": HOW} if int(HOW[0, 0]) == 1 else HOW
