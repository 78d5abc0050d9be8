"""Streams that count from 1000 KEY on, as fast as they can; items share responses."""

from kindaware import Done, KindAwareModel, Next


class TritonPythonModel(KindAwareModel):
    warmup = "off"
    items_per_response = 8

    def load(self):
        return None

    def begin(self, KEY, N):
        return (1000 * KEY, int(N[0, 0]))

    def step(self, states):
        return [Next((number + 1, left - 1), number) if left else Done() for number, left in states]
