"""The GPT that streams: the same weights and the same loop in every form.

This file is copied next to each model.py, together with the network of `examples/generation`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch

PROMPT, WANTED, TOKEN = "PROMPT", "WANTED", "TOKEN"
PROMPT_LENGTH = 16
VOCABULARY = 256
MAX_STREAMS = 64


@dataclass(frozen=True)
class Size:
    """Of a GPT with random weights; `context` is the most tokens of a text."""

    depth: int
    width: int
    heads: int
    context: int


SIZES = {
    "gpt": Size(depth=6, width=256, heads=4, context=256),
    "wide_gpt": Size(depth=8, width=768, heads=12, context=96),
}


class Text(NamedTuple):
    """A text that is being written.

    Attributes:
        slot: of the network's cache.
        length: how many tokens are in there.
        token: the one that follows; INT32, [1].
        left: how many are wanted after it.
    """

    slot: int
    length: int
    token: torch.Tensor
    left: int


class Writer:
    """Writes texts, several at a time; each step chooses the likeliest token of each.

    Args:
        size: a key of `SIZES`.
    """

    def __init__(self, size: str) -> None:
        from network import GPT  # beside this file, or on PYTHONPATH

        torch.manual_seed(0)
        self.network = GPT(VOCABULARY, **asdict(SIZES[size]), slots=MAX_STREAMS).eval()
        self._free = list(range(MAX_STREAMS))[::-1]

    def begin(self, prompt: torch.Tensor, wanted: int) -> Text:
        """Read a prompt but for its last token; INT32, [tokens]."""
        slot = self._free.pop()
        self.network(prompt[None, :-1], [slot], [0])
        return Text(slot, len(prompt) - 1, prompt[-1:], wanted)

    def step(self, texts: list[Text]) -> list[Text]:
        """Write one token of each text, and return the texts with it."""
        places = sorted(range(len(texts)), key=lambda place: texts[place].slot)
        by_slot = [texts[place] for place in places]
        tokens = torch.stack([text.token for text in by_slot])
        scores = self.network(tokens, [text.slot for text in by_slot], [text.length for text in by_slot])
        chosen = scores.argmax(dim=2).int().unbind()
        written = list(texts)
        for place, text, token in zip(places, by_slot, chosen, strict=True):
            written[place] = Text(text.slot, text.length + 1, token, text.left - 1)
        return written

    def end(self, text: Text) -> None:
        """Give the slot of a text to another one."""
        self._free.append(text.slot)


def make_prompt(seed: int = 0) -> torch.Tensor:
    """Return a prompt; INT32, [16]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (PROMPT_LENGTH,), generator=generator, dtype=torch.int32)
