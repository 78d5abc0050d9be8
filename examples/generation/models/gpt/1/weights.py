import os
from pathlib import Path

import torch
from network import GPT
from vocabulary import Vocabulary

from kindaware import ConfigError

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
PATH = CACHE / "kindaware-examples" / "generation.pt"


def save(network, vocabulary):
    """Write what train.py has made."""
    PATH.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"words": vocabulary.words, "state": network.state_dict()}, PATH)


def load(slots):
    """Read it, for so many texts at once."""
    if not PATH.exists():
        raise ConfigError.of(
            f"weights '{PATH}'",
            expected="a file that train.py has written",
            got="none",
            remedy="run it, or set parameter weights to 'random' in config.pbtxt",
        )
    found = torch.load(PATH, map_location="cpu", weights_only=True)
    vocabulary = Vocabulary(found["words"])
    network = GPT(len(vocabulary), slots=slots)
    network.load_state_dict(found["state"])
    return network, vocabulary


def make_random(slots):
    """Make a network that has learnt nothing, and whose tokens are bytes."""
    torch.manual_seed(0)
    vocabulary = Vocabulary()
    return GPT(len(vocabulary), slots=slots), vocabulary
