"""Teach a small GPT what Python's reference says about statements, and keep it for the example's model."""

import argparse
import re
import sys
import time
from pathlib import Path
from pydoc_data.topics import topics

import torch

sys.path.insert(0, str(Path(__file__).parent / "models" / "gpt" / "1"))
from network import GPT
from vocabulary import END, Vocabulary
from weights import PATH, save

CHAPTERS = (
    "compound assert assignment augassign del pass return yield raise break continue import global nonlocal"
)
LENGTH, NUM_TEXTS = 96, 4  # of a training step
RATE = 2e-3


def paragraphs():
    """Whole paragraphs of the reference, which every Python brings along, without grammar and examples."""
    for chapter in CHAPTERS.split():
        for text in re.split(r"\n\s*\n", topics[chapter]):
            plain = " ".join(re.sub("[“”]", '"', text).replace("’", "'").split())
            is_prose = plain.endswith(".") and not text.startswith((" ", "*", "["))
            if is_prose and "***" not in plain and "::=" not in plain:
                yield plain


def train(tokens, network, seconds):
    """Guess the next token from the beginnings of paragraphs on, until the time is over."""
    begins = (tokens[:-LENGTH] == END).nonzero()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, betas=(0.9, 0.95))
    started, step = time.monotonic(), 0
    while (left := 1 - (time.monotonic() - started) / seconds) > 0:
        optimizer.param_groups[0]["lr"] = RATE * min(left, (step + 1) / 50)
        chosen = begins[torch.randint(len(begins), (NUM_TEXTS,))]
        parts = tokens[chosen + torch.arange(LENGTH + 1)]
        scores = network(parts[:, :-1])
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), parts[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 50 == 0:
            print(f"{1 - left:4.0%}  loss {loss.item():.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long to train, default: %(default)s")
    args = parser.parse_args()
    torch.manual_seed(0)
    texts = [text.encode() for text in dict.fromkeys(paragraphs())]
    vocabulary = Vocabulary.of(b"\n".join(texts))
    tokens = torch.tensor([token for text in texts for token in [END, *vocabulary.encode(text)]])
    network = GPT(len(vocabulary))
    print(f"{len(texts)} paragraphs, {len(tokens)} tokens of {len(vocabulary)}")
    train(tokens, network, args.seconds)
    save(network, vocabulary)
    print(f"wrote {PATH}")


if __name__ == "__main__":
    main()
