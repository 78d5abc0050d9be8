import re

PIECES = re.compile(rb" ?[A-Za-z]+| ?[^A-Za-z\s]|\s")
END = 0  # the token between two texts


class Vocabulary:
    """Words as tokens, and bytes as tokens for all that isn't made of known words."""

    def __init__(self, words=()):
        self.words = list(words)
        self._pieces = [b"", *(bytes([byte]) for byte in range(256)), *self.words]
        self._tokens = {piece: token for token, piece in enumerate(self._pieces)}
        # Bytes of a character, which aren't text without the others.
        self.parts = [token for token, piece in enumerate(self._pieces) if not piece.isascii()]

    def __len__(self):
        return len(self._pieces)

    @classmethod
    def of(cls, text):
        """Take all words of a text."""
        return cls(sorted({piece for piece in PIECES.findall(text) if len(piece) > 1}))

    def encode(self, text):
        """Return the tokens of a text, which is bytes."""
        return [token for piece in PIECES.findall(text) for token in self._encode(piece)]

    def decode(self, token):
        """Return the bytes of a token."""
        return self._pieces[token]

    def _encode(self, piece):
        return [self._tokens[piece]] if piece in self._tokens else [1 + byte for byte in piece]
