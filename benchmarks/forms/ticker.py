"""Streams whose steps compute nothing: how many items one instance sends at most."""

from kindaware import Done, KindAwareModel, Next


class TritonPythonModel(KindAwareModel):
    """Answers with the numbers from the wanted one down to 1."""

    def load(self):
        """There is nothing to load."""
        return

    def begin(self, PROMPT, WANTED):
        """A state is the number that comes next."""
        return (WANTED,)

    def step(self, states):
        """Count down."""
        return [Next((left - 1,), left) if left > 1 else Done(left) for (left,) in states]
