"""Texts as a `KindAwareModel` that steps all of them together."""

from text import Writer

from kindaware import Done, KindAwareModel, Next


class TritonPythonModel(KindAwareModel):
    """One forward per step, for all texts."""

    def load(self):
        """Make the network."""
        self.writer = Writer(self.parameters["size"])
        return self.writer.network

    def begin(self, PROMPT, WANTED):
        """Read a prompt."""
        return self.writer.begin(PROMPT, int(WANTED))

    def step(self, states):
        """Write a token of each text."""
        texts = self.writer.step(states)
        return [Next(text, text.token) if text.left else Done(text.token) for text in texts]

    def end(self, state):
        """Free the text's slot."""
        self.writer.end(state)
