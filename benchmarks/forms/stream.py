"""Texts as a `KindAwareModel` with a generator per request, and so with a forward per text and token."""

from text import Writer

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    """The texts take turns, token by token."""

    def load(self):
        """Make the network."""
        self.writer = Writer(self.parameters["size"])
        return self.writer.network

    async def stream(self, PROMPT, WANTED):
        """Write a text."""
        text = self.writer.begin(PROMPT, int(WANTED))
        try:
            while text.left:
                (text,) = self.writer.step([text])
                yield text.token
        finally:
            self.writer.end(text)
